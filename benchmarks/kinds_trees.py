"""The cases of `kinds.py` that are trees, or masks and scores to trace: a function each, as in `kinds_images.py`."""

import dataclasses
import gzip
from pathlib import Path

import numpy as np
from kinds_images import Case, nifti, npy, nrrd, tif, v3draw, zarr

from neuron_vit3d import Volume, synthetic_neuron, write_volume


SIZE = (1.0, 0.25, 0.25)  # z, y, x of a voxel, micrometres
LINES = np.zeros((8, 24, 48), np.uint8)
LINES[3:5, 4:6, 4:44] = 1
LINES[3:5, 12:14, 4:44] = 2


def labels_without_background() -> np.ndarray:
    """As ilastik writes them: 1 is background, 2 the neuron."""
    return (1 + (LINES == 2)).astype(np.uint8)


def probabilities(dtype="u1") -> np.ndarray:
    """Scores of 0 to 1 in all that an integer type holds; noise below 0.2."""
    random = np.random.default_rng(0)
    scores = np.where(LINES > 0, random.uniform(0.8, 1, LINES.shape), random.uniform(0, 0.2, LINES.shape))
    return (scores * np.iinfo(dtype).max).astype(dtype)


def trace(path: str, *more: str) -> list[str]:
    return ["trace", path, "-o", "out.swc", *more]


def evaluate(array: np.ndarray) -> list[str]:
    return ["evaluate", tif(array), tif((LINES > 0).astype(np.uint8) * 255, name="gold.tif")]


def pair(kind: str) -> tuple[str, str]:
    """An image and a tree that does not lie on it."""
    neuron = synthetic_neuron((16, 96, 96), seed=3)
    write_volume("a.tif", Volume(neuron.volume.array, SIZE))
    xyz = neuron.tree.xyz.copy()
    if kind == "um":
        xyz = xyz * SIZE[::-1]
    elif kind == "outside":
        xyz = xyz + 5000
    elif kind == "flipped":
        xyz[:, 1] = 95 - xyz[:, 1]
    dataclasses.replace(neuron.tree, xyz=xyz).write("a.swc")
    if kind == "um":  # nothing in the file says so
        lines = Path("a.swc").read_text().splitlines()
        Path("a.swc").write_text("\n".join(line for line in lines if not line.startswith("#")) + "\n")
    return "a.tif", "a.swc"


def on_image(command: str, kind: str) -> list[str]:
    image, tree = pair(kind)
    return {
        "view": ["view", image, tree, "-o", "out.png"],
        "evaluate": ["evaluate", image, tree, "--scale", "255"],
        "convert": ["convert", tree, "out.tif", "--like", image],
    }[command]


SWC = "1 1 0 0 0 3 -1\n2 3 5 0 0 2 1\n3 3 9 0 0 {} 2\n4 3 14 0 0 1 3\n"
TRACES = """<?xml version="1.0"?><tracings><samplespacing x="1" y="1" z="1" units="pixel"/>
<imagesize width="20" height="9" depth="9"/><path id="0" swctype="3">{}</path></tracings>"""
ASC = "((Dendrite) (0 0 0 6) (5 0 0 4) (9 0 0 {}) (14 0 0 2))\n"


def text(name: str, content: str, *command: str) -> list[str]:
    """A tree file, and the command on it: conversion, where none is given."""
    Path(name).write_text(content)
    return [*command, name] if command else ["convert", name, "out.swc"]


def traces(radius: str) -> list[str]:
    places = ((0, 3), (5, 2), (9, radius), (14, 1))
    points = "".join(f'<point x="{x}" y="0" z="0" xd="{x}" yd="0" zd="0" r="{r}"/>' for x, r in places)
    Path("a.traces").write_bytes(gzip.compress(TRACES.format(points).encode()))
    return ["convert", "a.traces", "out.swc"]


BROKEN = {
    "a parent that is missing": SWC.format(2).replace("2 3 5 0 0 2 1", "2 3 5 0 0 2 77"),
    "a DOS end of file": SWC.format(2) + "\x1a",
    "ids of 64 bits": SWC.format(2).replace("\n4 ", f"\n{2**62} "),
    "a cycle": SWC.format(2).replace("1 1 0 0 0 3 -1", "1 1 0 0 0 3 4"),
    "children before parents": "\n".join(SWC.format(2).splitlines()[::-1]) + "\n",
}

TREE_KINDS: dict[str, dict[str, Case]] = {
    "Labels without a background": {
        "trace, TIFF": lambda: trace(tif(labels_without_background())),
        "trace, npy": lambda: trace(npy(labels_without_background())),
        "trace, v3draw": lambda: trace(v3draw(labels_without_background())),
        "trace, NRRD": lambda: trace(nrrd(labels_without_background())),
        "trace, NIfTI": lambda: trace(nifti(labels_without_background())),
        "trace, OME-Zarr": lambda: trace(zarr(labels_without_background())),
        "trace, one asked for": lambda: trace(tif(labels_without_background()), "--label", "2"),
        "trace, one that is not there": lambda: trace(tif(labels_without_background()), "--label", "9"),
        "evaluate": lambda: evaluate(labels_without_background()),
        "convert": lambda: ["convert", tif(labels_without_background()), "out.tif", "--label", "2"],
    },
    "Several labels": {
        "trace": lambda: trace(tif(LINES)),
        "trace, all": lambda: trace(tif(LINES), "--label", "all"),
        "evaluate": lambda: evaluate(LINES),
    },
    "Probabilities in whole numbers": {
        "trace, 8 bits, TIFF": lambda: trace(tif(probabilities())),
        "trace, 8 bits, npy": lambda: trace(npy(probabilities())),
        "trace, 8 bits, NRRD": lambda: trace(nrrd(probabilities())),
        "trace, 8 bits, NIfTI": lambda: trace(nifti(probabilities())),
        "trace, 16 bits, TIFF": lambda: trace(tif(probabilities("u2"))),
        "trace, 16 bits, npy": lambda: trace(npy(probabilities("u2"))),
        "evaluate, 8 bits": lambda: evaluate(probabilities()),
    },
    "A tree that does not lie on its image": {
        f"{command}, {kind}": lambda command=command, kind=kind: on_image(command, kind)
        for kind in ("fits", "um", "outside", "flipped")
        for command in ("view", "evaluate", "convert")
    },
    "Radii that are 0 or NaN": {
        "SWC, 0": lambda: text("a.swc", SWC.format(0)),
        "SWC, NaN": lambda: text("a.swc", SWC.format("nan")),
        ".traces, 0": lambda: traces("0"),
        ".traces, NaN": lambda: traces("NaN"),
        ".asc, 0": lambda: text("a.asc", ASC.format(0)),
    },
    "Broken SWC files": {
        f"{command or 'convert'}, {what}": lambda command=command, content=content: text(
            "a.swc", content, *command.split()
        )
        for what, content in BROKEN.items()
        for command in ("", "measure")
    },
}
