"""Makes a trained run the embedded default: python experiments/embed_default.py --run-dir runs/default

Writes float16 weights, configuration, image processor, training record and card to src/neuron_vit3d/assets/default.
The card is made of model_cards/default.yaml, the run's own files and the report of `benchmarks/basics.py volumes`;
they lie beside it, for `neuron-vit3d publish default`.

    python experiments/embed_default.py --card-only                              # facts or report have changed
    python experiments/embed_default.py --picture demo/sample.compared.png      # the card's picture, left by
    scripts/demo.py
"""

import json
import math
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import HfArgumentParser

from neuron_vit3d.files import new_folder
from neuron_vit3d.hub import model_card, read_facts
from neuron_vit3d.hub.assemble import FACTS_FILE, copy_record
from neuron_vit3d.inference import DEFAULT_CHECKPOINT, load_checkpoint
from neuron_vit3d.training.validation import shift_threshold


REPOSITORY = Path(__file__).resolve().parents[1]
CARDS = REPOSITORY / "model_cards"
LARGEST = 15e6  # bytes
GRAYS = 48  # shades in the card's picture: with more, it would weigh as much as it does in true colour


@dataclass
class Arguments:
    run_dir: str | None = field(default=None, metadata={"help": "Output folder of scripts/train.py."})
    logit: float = field(
        default=0.0, metadata={"help": "Scores of this logit become 0.5; see experiments/choose_threshold.py."}
    )
    intensities: str = field(
        default="", metadata={"help": "How it finds black and white, if not as it was trained: capped."}
    )
    card_only: bool = field(default=False, metadata={"help": "Only make the embedded default's card again."})
    picture: str | None = field(default=None, metadata={"help": "Make this picture, reduced, the card's."})
    facts: str = field(default=str(CARDS / "default.yaml"), metadata={"help": "Facts for the card."})


def main() -> int:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__.splitlines()[0]).parse_args_into_dataclasses()
    if sum(map(bool, (arguments.run_dir, arguments.card_only, arguments.picture))) != 1:
        print("embed_default.py: expected one of --run-dir, --card-only and --picture", file=sys.stderr)
        return 2
    try:
        if arguments.run_dir:
            embed(Path(arguments.run_dir), arguments.facts, arguments.logit, arguments.intensities)
        elif arguments.card_only:
            add_card(DEFAULT_CHECKPOINT, Path(arguments.facts))
        else:
            reduce_picture(Path(arguments.picture), CARDS / "default.png")
    except (ValueError, OSError) as error:
        print(f"embed_default.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def embed(run: Path, facts: str, logit: float = 0.0, intensities: str = "") -> None:
    """Replaces the embedded default by a run's model, its threshold moved by `logit`, whole or not at all."""
    with new_folder(DEFAULT_CHECKPOINT, alone=True) as partial:
        model, processor = load_checkpoint(run)
        model.config.name_or_path = ""
        processor.intensities = intensities or processor.intensities
        shift_threshold(model, 1 / (1 + math.exp(-logit)))
        model.to(torch.float16).save_pretrained(partial)
        processor.save_pretrained(partial)
        take_out_code(partial)
        copy_record(run, partial)
        add_card(partial, Path(facts))
        size = sum(path.stat().st_size for path in partial.iterdir())
        if size > LARGEST:
            raise ValueError(
                f"{run}: the checkpoint takes {size / 1e6:.1f} MB in float16, at most {LARGEST / 1e6:.0f} fit"
            )
        shutil.rmtree(DEFAULT_CHECKPOINT, ignore_errors=True)
    print(f"{DEFAULT_CHECKPOINT.relative_to(REPOSITORY)}  {size / 1e6:.1f} MB")


def add_card(folder: Path, facts: Path) -> None:
    """Writes the card, and beside it what it is made of, so that `neuron-vit3d publish default` needs no repository.

    That is facts.yaml, with the reports and the picture that it names.
    """
    text, told = facts.read_text(), read_facts(facts)
    pictures = [told.picture.file] if told.picture else []
    for path in [*(evaluation.report for evaluation in told.evaluation), *pictures]:
        place = Path(os.path.relpath(path, facts.parent)).as_posix()
        if f" {place}\n" not in text:
            raise ValueError(f"{facts}: expected {place} as the last word of a line")
        text = text.replace(f" {place}\n", f" {path.name}\n")
        shutil.copyfile(path, folder / path.name)
    (folder / FACTS_FILE).write_text(text)
    model_card(folder, folder / FACTS_FILE).save(folder / "README.md")


def take_out_code(folder: Path) -> None:
    """Removes the code and what points to it: the package has it, and needs no trust to run its own."""
    for path in folder.glob("*.py"):
        path.unlink()
    for name in ("config.json", "preprocessor_config.json"):
        values = json.loads((folder / name).read_text())
        kept = {key: value for key, value in values.items() if key not in ("auto_map", "custom_pipelines")}
        (folder / name).write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


def reduce_picture(source: Path, target: Path) -> None:
    """Writes a gray picture with coloured lines in it as a PNG with a palette: fewer grays, the same colours."""
    pixels = np.asarray(Image.open(source).convert("RGB"))
    colours = np.unique(pixels[np.ptp(pixels, axis=-1) > 0], axis=0)
    grays = np.repeat(np.linspace(0, 255, GRAYS).round().astype(np.uint8)[:, None], 3, axis=1)
    palette = np.concatenate([grays, colours])
    if len(palette) > 256:
        raise ValueError(f"{source}: expected a gray picture with a few colours, found {len(colours)} colours")
    reduced = Image.new("P", (1, 1))
    reduced.putpalette([*palette.ravel().tolist(), *[0] * (768 - palette.size)])
    Image.fromarray(pixels).quantize(palette=reduced, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target.relative_to(REPOSITORY)}  {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    raise SystemExit(main())
