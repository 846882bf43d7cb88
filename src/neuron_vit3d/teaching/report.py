"""Writes the page of a teaching: the verdict, and every stack before and after, in one file."""

from __future__ import annotations

from pathlib import Path

from ..evaluation.pages import page, png_address
from ..files import write_whole
from ..training.config import TrainingConfig
from .state import State
from .verdict import BEFORE, Candidate, Verdict


NAME = "report.html"
_TITLES = (("f1", "F1 within 2 voxels"), ("f1_wide", "wide F1"), ("average_precision", "AP"), ("dice", "best Dice"))


def write_page(
    folder: Path, state: State, verdict: Verdict, kept: Candidate | None, config: TrainingConfig, stacks: list[str]
) -> Path:
    """Writes `report.html` into a teaching's folder; nothing that it shows lies elsewhere.

    Args:
        folder: holds the pictures.
        state: the figures.
        verdict: which model is kept.
        kept: the taught model that is kept, if one is.
        config: of the trainings.
        stacks: their names, in the order of the page.
    """
    shown = verdict.model if verdict.is_better else max(model for model in state.figures if model != BEFORE)
    rows = []
    for name in stacks:
        before, after = state.figures[BEFORE][name], state.figures[shown][name]
        pictures = [picture_of(folder, name, model) for model in (BEFORE, shown)]
        rows.append(
            {
                "name": name,
                "figures": [(getattr(before, key), getattr(after, key)) for key, _ in _TITLES],
                "pictures": [png_address(picture.read_bytes()) for picture in pictures],
            }
        )
    text = page(
        "teaching.html.j2",
        verdict=verdict,
        kept=kept,
        rows=rows,
        titles=[title for _, title in _TITLES],
        config=config,
        minutes=state.minutes,
    )
    write_whole(folder / NAME, text, alone=True)
    return folder / NAME


def picture_of(folder: Path, stack: str, model: str) -> Path:
    """Names the picture of what a model made of a stack, in a teaching's folder."""
    return folder / "pictures" / f"{stack}.{model}.png"
