"""Fine-tuning on images with traces."""
