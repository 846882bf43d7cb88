"""Makes a trained run the embedded default: python scripts/embed_default.py --run-dir runs/default

Writes float16 weights, configuration, image processor and the card to src/neuron_vit3d/assets/default. The card's numbers
come from the run's own files and from the report that `scripts/benchmark.py volumes` wrote.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser

from neuron_vit3d.inference import DEFAULT_CHECKPOINT, load_checkpoint


REPOSITORY = Path(__file__).resolve().parents[1]
LARGEST = 15e6  # bytes


@dataclass
class Arguments:
    run_dir: str = field(metadata={"help": "Output folder of scripts/train.py."})
    report: str = field(
        default=str(REPOSITORY / "reports" / "default_on_real.md"),
        metadata={"help": "Report of scripts/benchmark.py volumes, for the card."},
    )


def main() -> int:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__.splitlines()[0]).parse_args_into_dataclasses()
    run, partial = Path(arguments.run_dir), DEFAULT_CHECKPOINT.with_name(".default.partial")
    try:
        model, processor = load_checkpoint(run)
        shutil.rmtree(partial, ignore_errors=True)
        model.config.name_or_path = ""
        model.to(torch.float16).save_pretrained(partial)
        processor.save_pretrained(partial)
        shutil.copy(run / "log.jsonl", partial / "training_log.jsonl")
        (partial / "README.md").write_text(card(run, Path(arguments.report)))
        size = sum(path.stat().st_size for path in partial.iterdir())
        if size > LARGEST:
            raise ValueError(
                f"{run}: the checkpoint takes {size / 1e6:.1f} MB in float16, at most {LARGEST / 1e6:.0f} fit"
            )
        shutil.rmtree(DEFAULT_CHECKPOINT, ignore_errors=True)
        os.replace(partial, DEFAULT_CHECKPOINT)
    except (ValueError, OSError) as error:
        print(f"embed_default.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{DEFAULT_CHECKPOINT.relative_to(REPOSITORY)}  {size / 1e6:.1f} MB")
    return 0


def card(run: Path, report: Path) -> str:
    """The card's text, its numbers taken from the run and the report."""
    config = json.loads((run / "training_config.json").read_text())
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    evaluations = [line for line in log if "best_threshold_dice" in line]
    best = max(evaluations, key=lambda line: line["best_threshold_dice"])
    synthetic = [len(list(Path(folder).rglob("neuron_*.swc"))) for folder in config["train_data"]]
    facts = {
        "train_volumes": sum(synthetic),
        "steps": config["max_steps"],
        "batch": config["batch_size"],
        "tile": config["tile_size"],
        "rate": config["learning_rate"],
        "encoder_rate": config["encoder_learning_rate"],
        "seed": config["seed"],
        "best_step": best["step"],
        "best_dice": f"{best['best_threshold_dice']:.3f}",
        "validation_volumes": len(best["dice_by_volume"]),
        "results": report.read_text().strip() if report.exists() else "Not measured yet.",
    }
    text = (REPOSITORY / "model_cards" / "default.md").read_text()
    for key, value in facts.items():
        text = text.replace("{" + key + "}", str(value))
    return text


if __name__ == "__main__":
    raise SystemExit(main())
