"""neuron-vit3d train, and scripts/train.py: turns options and data into a trained checkpoint.

The options are the fields of TrainingConfig, with hyphens or underscores, and those on publishing.
"""

import argparse
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import typer

from ..option_fields import no_such_option
from ..training.config import TrainingConfig, help_words, refuse_unknown
from .errors import one_line_errors


EXAMPLES = """\
examples:
  neuron-vit3d train --data mine -o mine_model                                   teach the default your stacks
  neuron-vit3d train --train-data neurons --base-model default -o runs/first     with options of your own
  accelerate launch -m neuron_vit3d train ...                                    many GPUs
  ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m neuron_vit3d train ...  many processes on CPUs
  neuron-vit3d train options.json                                                options from a file

Run it again with the same options to continue a run that was interrupted.
"""


@dataclass
class TeachOptions:
    """The option of teaching a model a few stacks, which needs no other one."""

    data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Folders of one to ten traced stacks of yours, a.tif beside a.swc. The embedded default (or "
            "another base model) is taught them, each stack judges models that have not seen it, the better of both "
            "models is kept, and report.html shows why."
        },
    )


@dataclass
class PublishOptions:
    """The options of publishing the trained checkpoint."""

    push_to_hub: str = field(default="", metadata={"help": "Publish it in the end: name/repository."})
    hub_facts: str = field(default="", metadata={"help": "Facts for its card, as model_cards/default.yaml has them."})
    hub_private: bool = field(default=False, metadata={"help": "Make a new repository private."})


def train(context: typer.Context) -> None:
    """Fine-tune a 2D vision transformer, inflated to 3D, or a checkpoint, on images with SWC traces."""
    one_line_errors(check_names, quiet=False)(context.args)
    one_line_errors(train_from)(context.args, "neuron-vit3d train")


def train_from(arguments: list[str], program: str | None = None) -> None:
    """Trains, and publishes if that is asked for; prints where the checkpoint is.

    Args:
        arguments: options as they are typed, or the name of a JSON file of them.
        program: what the help calls the program; None: as the script is called.

    Raises:
        ValueError, OSError: an option, the data, or the Hub's answer is wrong.
        KeyboardInterrupt: with a message that tells how to go on.
    """
    check_names(arguments)
    try:
        typed = read_options(arguments, program)
        hub = PublishOptions(**_of(PublishOptions, typed))
        if typed.get("data"):
            teach_from(typed, hub)
            return
        config = TrainingConfig(**_of(TrainingConfig, typed))
        if hub.push_to_hub:
            check_hub(hub)
        from accelerate import PartialState

        from ..training.trainer import train

        output = train(config)
        if PartialState().is_main_process:
            print(output)
            if hub.push_to_hub:
                from ..hub import publish

                print(publish(output, hub.push_to_hub, facts=hub.hub_facts, private=hub.hub_private).commit_url)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; the same command continues from the last checkpoint") from error


def teach_from(typed: dict[str, Any], hub: PublishOptions) -> None:
    """Teaches a model a few stacks; prints the verdict, the page and the folder.

    Raises:
        ValueError, OSError: an option or the data is wrong.
    """
    if hub.push_to_hub:
        raise ValueError("--push-to-hub: look at the report first; `neuron-vit3d publish` then publishes the folder")
    from ..teaching import teach

    taught = teach(typed["data"], **_of(TrainingConfig, typed))
    print(taught.verdict.text)
    print(taught.report)
    print(taught.folder)


def check_names(arguments: list[str]) -> None:
    """Raises ValueError, which names the nearest real option, for an option that does not exist.

    Needs neither torch nor transformers.
    """
    flags = _flags()
    for word in arguments:
        typed = word.partition("=")[0]
        if not word.startswith("--") or word == "--":
            continue
        # argparse takes the beginning of an option for the option.
        if not any(flag.startswith(typed) for flag in flags):
            raise ValueError(f"{no_such_option(typed, typed.replace('_', '-'), flags)} (--help lists the options)")


def _flags() -> list[str]:
    """Lists all options as they may be typed, those with hyphens first."""
    names = []
    for option in (*fields(TrainingConfig), *fields(TeachOptions), *fields(PublishOptions)):
        names += [option.name, *([f"no_{option.name}"] if option.default is True else [])]
    return [f"--{name.replace('_', '-')}" for name in (*names, "help")] + [f"--{name}" for name in names]


def check_hub(hub: PublishOptions) -> None:
    """Refuses before the training what the Hub would refuse after it."""
    from ..hub import check_can_publish_checkpoint

    if not hub.hub_facts:
        raise ValueError("push_to_hub: expected the facts for the card as well (--hub-facts file.yaml)")
    check_can_publish_checkpoint(hub.push_to_hub, hub.hub_facts, private=hub.hub_private)


def read_options(arguments: list[str], program: str | None = None) -> dict[str, Any]:
    """Reads options as they are typed, or from the JSON file that is the only word.

    Returns:
        Those that were given, by name; who teaches has other defaults for the rest than who trains.
    """
    parser = _parser(program)
    if len(arguments) != 1 or not arguments[0].endswith(".json"):
        parser.parse_args(arguments)  # help, and what is wrong
        for action in parser._actions:
            action.default = argparse.SUPPRESS
        return vars(parser.parse_args(arguments))
    path = Path(arguments[0])
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            for name in found:
                refuse_unknown(name, *(option.name for option in (*fields(TeachOptions), *fields(PublishOptions))))
        read = {name: value for record in parser.parse_dict(found) for name, value in vars(record).items()}
        return {name: read[name] for name in found}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON object of options, found: {error}") from error


def _of(record: type, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of a record's options."""
    return {option.name: values[option.name] for option in fields(record) if option.name in values}


def _parser(program: str | None):
    from argparse import ArgumentDefaultsHelpFormatter

    from transformers import HfArgumentParser

    class HelpFormatter(ArgumentDefaultsHelpFormatter):
        def _get_help_string(self, action):
            return (super()._get_help_string(action) or "").replace("{}", ", ".join(help_words(action.dest)))

    class OptionParser(HfArgumentParser):
        def error(self, message: str):
            raise ValueError(f"{message} (--help lists the options)")

        def format_help(self) -> str:
            return f"{super().format_help()}\n{EXAMPLES}"

    return OptionParser(
        (TrainingConfig, TeachOptions, PublishOptions),
        prog=program,
        formatter_class=HelpFormatter,
        description="Fine-tunes a 2D vision transformer, inflated to 3D, on images with SWC traces.",
    )
