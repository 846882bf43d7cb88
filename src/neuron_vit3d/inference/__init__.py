"""Whole volumes through the model."""

from .large import segment_large
from .segment import DEFAULT_CHECKPOINT, Segmenter, load_checkpoint, segment


__all__ = ["DEFAULT_CHECKPOINT", "Segmenter", "load_checkpoint", "segment", "segment_large"]
