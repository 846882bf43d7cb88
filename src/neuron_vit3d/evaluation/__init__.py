"""Compares results with gold: trees and masks that a human drew."""

from .ranking import average_precision, ranking_scores
from .segmentation import segmentation_scores


__all__ = ["average_precision", "ranking_scores", "segmentation_scores"]
