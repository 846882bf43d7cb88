"""The package's scores as modules of the `evaluate` library: `evaluate.load(str(METRICS["neuron_segmentation"]))`."""

from pathlib import Path


# name -> folder with the module and its card
METRICS = {name: Path(__file__).resolve().parent / name for name in ("neuron_segmentation", "tree_distance")}

__all__ = ["METRICS"]
