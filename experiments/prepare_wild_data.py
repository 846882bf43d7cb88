"""Writes the real neurons that a model taught on wild pictures learns from, and what it is chosen by.

    python experiments/prepare_wild_data.py --output-dir data/wild --real-dir folder

Leaves `synthetic/validation` and, with --real-dir, `real/train` and `real/validation`: pairs as `scripts/train.py`
reads them. The synthetic neurons to learn from are made while it learns. A run that was cut short goes on where it
ended.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prepare_default_data import prepare_real
from transformers import HfArgumentParser

from neuron_vit3d.data.wild import wild_neuron
from neuron_vit3d.volumes import Volume, write_volume


# Far from the seeds that training draws.
VALIDATION_SEED = 800_000
# TrailMap's authors validated on the same two. What is better on synthetic neurons may be worse on real ones.
# (rivulet_test, whose licence would allow it, is left out: it is measured on.)
REAL = {"train": ("flylight_mcfo_crop", "trailmap_train"), "validation": ("trailmap_val0", "trailmap_val1")}


@dataclass
class Arguments:
    output_dir: str = field(metadata={"help": "Folder to write to."})
    real_dir: str | None = field(default=None, metadata={"help": "Folder with flylight_mcfo_crop and trailmap_*."})
    validation_count: int = field(default=8, metadata={"help": "Synthetic neurons to validate on."})


def main() -> int:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__.splitlines()[0]).parse_args_into_dataclasses()
    output = Path(arguments.output_dir)
    try:
        for number in range(arguments.validation_count):
            neuron = wild_neuron(seed=VALIDATION_SEED + number)
            write_pair(output / "synthetic" / "validation" / f"wild_{number}", neuron.volume, neuron.labels)
        if arguments.real_dir:
            for part, names in REAL.items():
                prepare_real(Path(arguments.real_dir), names, output / "real" / part)
    except (ValueError, OSError) as error:
        print(f"prepare_wild_data.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(output)
    return 0


def write_pair(folder: Path, image: Volume, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / "image.tif", image)
    write_volume(folder / "labels.tif", Volume(labels))


if __name__ == "__main__":
    raise SystemExit(main())
