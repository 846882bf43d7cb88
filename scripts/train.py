"""Fine-tunes a 2D vision transformer, inflated to 3D, on images with SWC traces: `neuron-vit3d train` as a script.

    python scripts/train.py --train-data folder --base-model facebook/dino-vitb16 --output-dir runs/first
    accelerate launch scripts/train.py ...                                   # many GPUs
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 scripts/train.py ... # many processes on CPUs
    python scripts/train.py options.json                                     # options from a file

Run it again with the same options to continue a run that was interrupted.
"""

import sys

from neuron_vit3d.cli.errors import exit_status
from neuron_vit3d.cli.train import train_from


if __name__ == "__main__":
    raise SystemExit(exit_status("train.py", train_from, sys.argv[1:]))
