"""Writes the page of a teaching: the verdict, and every stack before and after, in one file."""

from __future__ import annotations

import base64
from pathlib import Path

from ..files import write_whole
from ..training.config import TrainingConfig
from .state import State
from .verdict import BEFORE, Verdict


NAME = "report.html"
_TITLES = (("f1", "F1 within 2 voxels"), ("f1_wide", "wide F1"), ("average_precision", "AP"), ("dice", "best Dice"))


def write_page(folder: Path, state: State, verdict: Verdict, config: TrainingConfig, stacks: list[str]) -> Path:
    """Writes `report.html` into a teaching's folder; nothing that it shows lies elsewhere.

    Args:
        folder: holds the pictures.
        state: the figures.
        verdict: which model is kept.
        config: of the trainings.
        stacks: their names, in the order of the page.
    """
    from jinja2 import Environment, PackageLoader

    shown = verdict.model if verdict.is_better else max(model for model in state.figures if model != BEFORE)
    rows = []
    for name in stacks:
        before, after = state.figures[BEFORE][name], state.figures[shown][name]
        rows.append(
            {
                "name": name,
                "figures": [(getattr(before, key), getattr(after, key)) for key, _ in _TITLES],
                "pictures": [_embedded(folder / "pictures" / f"{name}.{model}.png") for model in (BEFORE, shown)],
            }
        )
    environment = Environment(loader=PackageLoader("neuron_vit3d", "teaching"), autoescape=True)
    page = environment.get_template("report.html.j2").render(
        verdict=verdict, rows=rows, titles=[title for _, title in _TITLES], config=config, minutes=state.minutes
    )
    write_whole(folder / NAME, page, alone=True)
    return folder / NAME


def _embedded(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
