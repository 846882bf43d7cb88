"""Writes what the embedded default is trained on: synthetic neurons, and the permissively licensed real ones.

    python experiments/prepare_default_data.py --output-dir data/default --real-dir folder

Leaves `synthetic/train`, `synthetic/validation` and, with --real-dir, `real/train` and `real/validation`: pairs as
`scripts/train.py` reads them.
A run that was cut short goes on where it ended.
"""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import HfArgumentParser

from neuron_vit3d.data import write_synthetic_pairs
from neuron_vit3d.data.pairs import IGNORE_INDEX
from neuron_vit3d.volumes import Volume, read_volume, write_volume


TRAIN_SEED, VALIDATION_SEED = 1, 2
# TrailMap's authors validated on the same two. What is better on synthetic neurons may be worse on real ones.
REAL = {
    "train": ("flylight_mcfo_crop", "rivulet_test", "trailmap_train"),
    "validation": ("trailmap_val0", "trailmap_val1"),
}


@dataclass
class Arguments:
    output_dir: str = field(metadata={"help": "Folder to write to."})
    real_dir: str | None = field(
        default=None, metadata={"help": "Folder with flylight_mcfo_crop, rivulet_test, trailmap_*."}
    )
    train_count: int = field(default=180, metadata={"help": "Synthetic neurons to train on."})
    validation_count: int = field(default=6, metadata={"help": "Synthetic neurons to validate on."})


def main() -> int:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__.splitlines()[0]).parse_args_into_dataclasses()
    output = Path(arguments.output_dir)
    try:
        shape = (40, 256, 256)
        train = output / "synthetic" / "train"
        # Half of any quality, half as bad as the worst real ones: they are what a model is needed for.
        write_synthetic_pairs(train / "any", arguments.train_count // 2, seed=TRAIN_SEED, shape=shape)
        write_synthetic_pairs(
            train / "noisy", arguments.train_count // 2, seed=TRAIN_SEED + 1000, shape=shape, quality="noisy"
        )
        write_synthetic_pairs(
            output / "synthetic" / "validation", arguments.validation_count, seed=VALIDATION_SEED, shape=shape
        )
        if arguments.real_dir:
            for part, names in REAL.items():
                prepare_real(Path(arguments.real_dir), names, output / "real" / part)
    except (ValueError, OSError) as error:
        print(f"prepare_default_data.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(output)
    return 0


def prepare_real(source: Path, names: tuple[str, ...], target: Path) -> None:
    """The MIT and BSD licensed volumes, with labels 0 background, 1 neuron, 255 ignored."""
    for name in names:
        image = read_volume(source / name / "image.tif").array
        if name.startswith("trailmap"):
            labels = trailmap_labels(read_volume(source / name / "labels.tif").array)
        elif name == "rivulet_test":
            # The image was cleaned: what is not black is the neuron. Its trace is a program's, with radii of 1.
            labels = (image > 0).astype(np.uint8)
        else:
            labels = (read_volume(source / name / "mask.tif").array > 0).astype(np.uint8)
        (target / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name / "image.tif", target / name / "image.tif")
        write_volume(target / name / "labels.tif", Volume(labels))


def trailmap_labels(labels: np.ndarray) -> np.ndarray:
    """TrailMap's labels (0 unlabelled, 1 background, 2 axon, 4 edge of an axon) to ours; its edges are ignored."""
    ours = np.full(labels.shape, IGNORE_INDEX, np.uint8)
    ours[labels == 1] = 0
    ours[labels == 2] = 1
    return ours


if __name__ == "__main__":
    raise SystemExit(main())
