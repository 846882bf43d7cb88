"""Which neurons the runs of `reproduce_paper.py` are trained on, choose their threshold by, and are tested on."""

import csv
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import tifffile

from neuron_vit3d.data.pairs import Pair, find_pairs
from neuron_vit3d.files import new_folder
from neuron_vit3d.morphology import read_swc


@dataclass(frozen=True)
class Data:
    """A folder of pairs and which of them are for what."""

    folder: str
    train: list[str]
    validation: list[str]
    test: list[str]

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        return {pair.name: pair for pair in find_pairs(self.folder)}

    def fold(self, which: int, folds: int) -> "Data":
        """Tells which neurons are tested on: every `folds`-th, from `which` on.

        The one after the first of them chooses the threshold.
        """
        names = np.random.default_rng(0).permutation(sorted([*self.train, *self.validation, *self.test])).tolist()
        test = names[which::folds]
        validation = [names[(which + 1) % len(names)]]
        return replace(
            self,
            train=[name for name in names if name not in (*test, *validation)],
            validation=validation,
            test=test,
        )

    def part(self, share: float, seed: int) -> "Data":
        """With a share of the training neurons, drawn by `seed`."""
        drawn = np.random.default_rng(seed).permutation(self.train)[: max(1, round(share * len(self.train)))]
        return replace(self, train=sorted(drawn.tolist()))


def read_split(path: Path, folder: str) -> Data:
    """The split in a JSON file of names.

    Raises ValueError: lists are missing, a name has no pair, or is in two parts.
    """
    split = json.loads(path.read_text())
    parts = ("train", "validation", "test")
    if not isinstance(split, dict) or not all(isinstance(split.get(part), list) for part in parts):
        raise ValueError(f"{path}: expected lists of names train, validation and test")
    data = Data(folder, *(split[part] for part in parts))
    missing = {*data.train, *data.validation, *data.test} - data.pairs.keys()
    if missing:
        raise ValueError(f"{folder}: found no pair named {min(missing)!r}")
    both = (set(data.train) & {*data.validation, *data.test}) | (set(data.validation) & set(data.test))
    if both:
        raise ValueError(f"{path}: {min(both)} is in two parts; a neuron may be in one")
    return data


def projections(source: Path, flat: Path) -> Data:
    """Makes pairs of one slice, in the folder `flat`, of projections with gold trees.

    They are split by the stack they are of.
    """
    flattened(source, flat)
    return Data(str(flat), *split_by_stack(source, [pair.name for pair in find_pairs(flat)]))


def flattened(source: Path, target: Path) -> None:
    """Makes pairs of one slice of projections with gold trees, whose z is set to 0.

    Raises ValueError where there are none, or the target was made of others.
    """
    folders = sorted(path.parent for path in source.glob("*/mip.tif"))
    if not folders:
        raise ValueError(f"{source}: expected folders with mip.tif and gold.swc, found none (--mip-dir)")
    if target.exists():
        if sorted(path.name for path in target.iterdir()) != [folder.name for folder in folders]:
            raise ValueError(f"{target}: was made of other projections than those of {source}; remove it")
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new_folder(target) as partial:
                for folder in folders:
                    (partial / folder.name).mkdir(parents=True)
                    tifffile.imwrite(partial / folder.name / "image.tif", tifffile.imread(folder / "mip.tif")[None])
                    tree = read_swc(folder / "gold.swc", mend_structure=True)
                    replace(tree, xyz=tree.xyz * [1, 1, 0]).write(partial / folder.name / "trace.swc")
        except OSError:
            if not target.exists():  # another process may have made them
                raise


def split_by_stack(source: Path, names: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Names for training, validation (about 8) and testing (about 20); neurons cut out of one stack stay together."""
    stacks = {name: name for name in names}
    if (source / "index.csv").exists():
        with open(source / "index.csv", newline="") as file:
            stacks |= {row["id"]: row["gold_swc_name"].split(".v3draw")[0] for row in csv.DictReader(file)}
    order = np.random.default_rng(0).permutation(sorted({stacks[name] for name in names})).tolist()
    names = sorted(names, key=lambda name: (order.index(stacks[name]), name))
    first, last = 20, len(names) - 8
    while first < len(names) and stacks[names[first]] == stacks[names[first - 1]]:
        first += 1
    while last > first and stacks[names[last]] == stacks[names[last - 1]]:
        last -= 1
    return names[first:last], names[last:], names[:first]
