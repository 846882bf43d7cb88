"""Where the real sample lies that comes with the package: its source and licence stand in its README.md."""

from pathlib import Path


_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "sample"
SAMPLE_IMAGE = _FOLDER / "dendrites.tif"
# Of some of the dendrites that the image shows, not of all: what a trace has besides need not be wrong.
SAMPLE_TREE = _FOLDER / "dendrites.gold.swc"
