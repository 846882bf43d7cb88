"""Fine-tunes a 2D vision transformer, inflated to 3D, on images with SWC traces.

    python scripts/train.py --train-data folder --base-model facebook/dino-vitb16 --output-dir runs/first
    accelerate launch scripts/train.py ...                                   # many GPUs
    python scripts/train.py options.json                                     # options from a file

Run it again with the same options to continue a run that was interrupted.
"""

import sys
from pathlib import Path

from accelerate import PartialState
from transformers import HfArgumentParser

from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.training.trainer import train


def main() -> int:
    try:
        output = train(read_options(sys.argv[1:]))
        if PartialState().is_main_process:
            print(output)
    except (ValueError, OSError) as error:
        print(f"train.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    return 0


class OptionParser(HfArgumentParser):
    def error(self, message: str):
        raise ValueError(f"{message} (--help lists the options)")


def read_options(arguments: list[str]) -> TrainingConfig:
    parser = OptionParser(TrainingConfig, description=__doc__.splitlines()[0])
    if len(arguments) != 1 or not arguments[0].endswith(".json"):
        return parser.parse_args_into_dataclasses(arguments)[0]
    try:
        return parser.parse_json_file(Path(arguments[0]))[0]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{arguments[0]}: expected a JSON object of options, found: {error}") from error


if __name__ == "__main__":
    raise SystemExit(main())
