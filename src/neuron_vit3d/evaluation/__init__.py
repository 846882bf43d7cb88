"""What came out, compared with what a human drew."""

from .segmentation import segmentation_scores


__all__ = ["segmentation_scores"]
