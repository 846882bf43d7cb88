"""Whole volumes through the model."""

from .segment import DEFAULT_CHECKPOINT, Segmenter, load_checkpoint, segment


__all__ = ["DEFAULT_CHECKPOINT", "Segmenter", "load_checkpoint", "segment"]
