"""Compares results with what a human drew."""

from .ranking import average_precision, ranking_scores
from .segmentation import segmentation_scores


__all__ = ["average_precision", "ranking_scores", "segmentation_scores"]
