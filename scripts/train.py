"""Fine-tunes a 2D vision transformer, inflated to 3D, on images with SWC traces.

    python scripts/train.py --train-data folder --base-model facebook/dino-vitb16 --output-dir runs/first
    accelerate launch scripts/train.py ...                                   # many GPUs
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 scripts/train.py ... # many processes on CPUs
    python scripts/train.py options.json                                     # options from a file

Run it again with the same options to continue a run that was interrupted.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from transformers import HfArgumentParser

from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.training.trainer import train


@dataclass
class PublishOptions:
    """What becomes of the trained checkpoint."""

    push_to_hub: str = field(default="", metadata={"help": "Publish it in the end: name/repository."})
    hub_facts: str = field(default="", metadata={"help": "Facts for its card, as model_cards/default.yaml has them."})
    hub_private: bool = field(default=False, metadata={"help": "Make a new repository private."})


def main() -> int:
    try:
        config, hub = read_options(sys.argv[1:])
        if hub.push_to_hub:
            check_hub(hub)
        output = train(config)
        if PartialState().is_main_process:
            print(output)
            if hub.push_to_hub:
                from neuron_vit3d.hub import publish

                print(publish(output, hub.push_to_hub, facts=hub.hub_facts, private=hub.hub_private).commit_url)
    except (ValueError, OSError) as error:
        print(f"train.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def check_hub(hub: PublishOptions) -> None:
    """Refuses now what the Hub would refuse after the training."""
    from neuron_vit3d.hub import check_can_publish_checkpoint

    if not hub.hub_facts:
        raise ValueError("push_to_hub: expected the facts for the card as well (--hub-facts file.yaml)")
    check_can_publish_checkpoint(hub.push_to_hub, hub.hub_facts, private=hub.hub_private)


class OptionParser(HfArgumentParser):
    def error(self, message: str):
        raise ValueError(f"{message} (--help lists the options)")


def read_options(arguments: list[str]) -> tuple[TrainingConfig, PublishOptions]:
    parser = OptionParser((TrainingConfig, PublishOptions), description=__doc__.splitlines()[0])
    if len(arguments) != 1 or not arguments[0].endswith(".json"):
        return parser.parse_args_into_dataclasses(arguments)
    try:
        return parser.parse_json_file(Path(arguments[0]))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{arguments[0]}: expected a JSON object of options, found: {error}") from error


if __name__ == "__main__":
    raise SystemExit(main())
