"""Says in words whether teaching was worth it, by stacks that the taught models had not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .judging import Figures


BEFORE = "before"
# A smaller mean gain is not worth another model: with few stacks it may be chance.
LEAST_GAIN = 0.01
# A stack that is worse by so much is told, whatever the others say.
MUCH_WORSE = 0.05


@dataclass(frozen=True)
class Candidate:
    """A model that may be kept.

    Attributes:
        share: of the way from the weights of before to the taught ones.
        lowest_score: of its configuration.
    """

    share: float
    lowest_score: float

    @property
    def name(self) -> str:
        """What its figures are kept under, such as `0.5` or `0.5_sure`."""
        return f"{self.share:g}{'_sure' if self.lowest_score else ''}"


@dataclass(frozen=True)
class Verdict:
    """Which model is kept, and why.

    Attributes:
        model: "before", or the name of a taught model (see `Candidate`).
        text: a sentence for the user.
        better: on so many unseen stacks it is better than before.
        unseen: the number of unseen stacks.
    """

    model: str
    text: str
    better: int
    unseen: int

    @property
    def is_better(self) -> bool:
        """Whether the taught model is kept."""
        return self.model != BEFORE


def speak(figures: Mapping[str, Mapping[str, Figures]], *, of_halves: bool = False) -> Verdict:
    """Chooses the model with the highest mean of the deciding figure; the one of before where none is clearly better.

    Args:
        figures: by model, then by stack; all have the same stacks.
        of_halves: the stacks are two halves of one.
    """
    stacks = sorted(figures[BEFORE])
    values = {model: np.array([by[stack].deciding for stack in stacks]) for model, by in figures.items()}
    taught = [model for model in values if model != BEFORE]
    best = max(taught, key=lambda model: values[model].mean())
    gain, better = values[best] - values[BEFORE], int((values[best] > values[BEFORE]).sum())
    unseen = "unseen halves" if of_halves else "unseen stacks"
    changes = f"{better} of {len(stacks)} {unseen}: {_change(figures, best, stacks)}"
    if gain.mean() >= LEAST_GAIN and 2 * better >= len(stacks):
        worst = int(gain.argmin())
        doubt = f"; worse on {stacks[worst]} by {-gain[worst]:.2f}" if gain[worst] < -MUCH_WORSE else ""
        doubt += "; one stack says little: teach it a second one" if of_halves else ""
        return Verdict(best, f"better on {changes}{doubt}", better, len(stacks))
    return Verdict(
        BEFORE,
        f"not better ({changes}): the model of before is kept; two more traced stacks may help",
        better,
        len(stacks),
    )


def _change(figures: Mapping[str, Mapping[str, Figures]], model: str, stacks: list[str]) -> str:
    """Writes mean figures before and after, such as `F1 0.71 -> 0.83, wide F1 0.85 -> 0.90`."""
    words = []
    for name, title in (("f1", "F1"), ("f1_wide", "wide F1"), ("average_precision", "AP")):
        pairs = [(getattr(figures[BEFORE][one], name), getattr(figures[model][one], name)) for one in stacks]
        known = np.array([pair for pair in pairs if None not in pair], float)
        if len(known):
            before, after = known.mean(axis=0)
            words.append(f"{title} {before:.2f} -> {after:.2f}")
    return ", ".join(words)
