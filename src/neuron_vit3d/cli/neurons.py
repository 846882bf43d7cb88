"""Chooses the neurons of a volume that become trees: --neurons and --root of `segment` and `trace`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..tracing.options import TraceOptions
from .input import check_not_made_by_hand, check_number, check_target, parse_numbers
from .output import branches_of, numbered


@dataclass(frozen=True)
class Neurons:
    """The largest neurons of a volume, or those that begin at some places.

    Attributes:
        count: how many of the largest.
        roots: x, y, z in voxels of each; none: the largest.
    """

    count: int = 1
    roots: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def parsed(cls, roots: list[str] | None, count: int, tracing: TraceOptions) -> "Neurons":
        """Reads what was typed.

        Raises:
            ValueError: both options are used, a place is no x,y,z, or several neurons should have fragments.
        """
        check_number("--neurons", count, at_least=1)
        if roots and count > 1:
            raise ValueError("--neurons: cannot be used with --root, which says how many by itself")
        places = [parse_numbers(text, 3, "--root: expected x,y,z in voxels") for text in roots or []]
        if tracing.fragments and max(count, len(places)) > 1:
            raise ValueError(
                "--fragments: cannot be used for several neurons, for which of them they belong to is not known"
            )
        return cls(len(places) or count, tuple(places))

    def asked(self) -> Any:
        """Returns what `trace_neurons` is asked for: a count or roots."""
        return list(self.roots) or self.count

    def outputs(self, swc: Path) -> list[Path]:
        """Lists where the trees go: one to the file itself, several to `NAME_1.swc`, `NAME_2.swc` ..."""
        return [swc] if self.count == 1 else [numbered(swc, i) for i in range(1, self.count + 1)]

    def check_outputs(self, swc: Path, source: Path, *, unasked: bool) -> None:
        """Makes sure that the trees and their tables can be written, before any work is done.

        Args:
            swc: where one tree would go.
            source: what is traced.
            unasked: nobody typed this name, so that it replaces nothing but an earlier tree of this program.
        """
        for path in self.outputs(swc):
            if unasked:
                check_not_made_by_hand(path)
            check_target(path, source)
            check_target(branches_of(path), source)
            check_not_made_by_hand(branches_of(path))

    def check_inside(self, image: Path, shape: tuple[int, int, int]) -> None:
        """Makes sure that the roots lie in a volume of a shape (z, y, x)."""
        for root in self.roots:
            if not all(-0.5 <= place <= side - 0.5 for place, side in zip(root, shape[::-1], strict=True)):
                typed = ",".join(f"{place:g}" for place in root)
                raise ValueError(
                    f"{image}: --root: expected a place x,y,z in its {' x '.join(map(str, shape[::-1]))} voxels, "
                    f"got {typed}"
                )
