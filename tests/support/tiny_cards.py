"""A checkpoint with all that training leaves, facts about it, and an evaluation report: what cards are made of, in
little."""

import copy
import json
from pathlib import Path

import yaml
from PIL import Image

from support.program import save_checkpoint


HOME = "/home/alice/project"  # must not be found in anything that is published

REPORT = {
    "command": "benchmarks/basics.py volumes",
    "machine": "2 threads, no GPU, x86_64, torch 2.13.0+cpu",
    "volumes": [
        {"name": "fly brain 1", "dice": 0.4441, "cldice": 0.5073, "tree_f1": 0.669, "esa": 2.0153, "seconds": 32.026},
        {"name": "mouse_2", "dice": 0.367, "cldice": None, "tree_f1": 0.6456, "esa": 17.038, "seconds": 50.7729},
    ],
}

FACTS = {
    "title": "A tiny checkpoint",
    "summary": "Random weights.",
    "license": "apache-2.0",
    "tags": ["neuroscience", "neuron-vit3d"],
    "base_model": {
        "name": "ViT-B/16 of DINO",
        "hub_id": "facebook/dino-vitb16",
        "license": "Apache-2.0",
        "pretraining": "Without labels on ImageNet-1k.",
    },
    "data": [
        {
            "name": "tiny neurons",
            "hub_id": None,
            "license": "MIT",
            "what": "drawn | by hand",
            "volumes": 4,
            "split": {"train": ["ann", "bob"], "validation": 1, "test": ["cid"]},
        }
    ],
    "evaluation": [{"report": "reports/tiny.json", "note": "On two volumes."}],
    "picture": {"file": "tiny.PNG", "caption": "A gray square."},
    "limits": "It knows nothing.",
    "make_again": {"needs": "Luck.", "commands": "python scripts/train.py --seed 0\n"},
}

LOG = [
    {"step": 10, "loss": 1.5},
    {"step": 20, "best_threshold": 0.4, "best_threshold_dice": 0.71249, "dice_by_volume": {f"{HOME}/dan": 0.7125}},
    {"step": 30, "best_threshold": 0.5, "best_threshold_dice": 0.64, "dice_by_volume": {f"{HOME}/dan": 0.64}},
]

OPTIONS = {
    "train_data": [f"{HOME}/data/train"],
    "output_dir": f"{HOME}/runs/tiny",
    "base_model": "facebook/dino-vitb16",
    "batch_size": 8,
    "tile_size": 224,
    "learning_rate": 0.001,
    "encoder_learning_rate": 0.0001,
    "seed": 7,
}


def save_run(folder: Path) -> Path:
    """A checkpoint as training leaves it: weights, configuration, image processor, log and options."""
    save_checkpoint(folder)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    (folder / "training_config.json").write_text(json.dumps(OPTIONS))
    return folder


def save_facts(folder: Path, report: dict = REPORT, **changes) -> Path:
    """Writes facts with the report and the picture that they name; `changes` replace whole keys, None as a value
    too."""
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    (folder / "reports" / "tiny.json").write_text(json.dumps(report))
    Image.new("L", (8, 8), 128).save(folder / "tiny.PNG")
    path = folder / "facts.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(FACTS), **changes}, sort_keys=False))
    return path
