"""Does one bright thing black out a stack? A soma, a scale bar, an offset, an inverted image; the same neurons each time.

    python benchmarks/bright_things.py [--model folder] [--reported folder] [--output benchmarks/results/bright_things.md]

Synthetic neurons of a kept range of seeds get what is named, and the Dice of the neurites (what was added is left out, with a
margin) is compared with that of the plain image. With --reported also scale_bar.tif against scale_bar_without.tif, as trees.
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from neuron_vit3d import Segmenter, Volume, read_swc, read_volume, trace, tree_distance
from neuron_vit3d.data import synthetic_neuron


SEEDS = (910_000, 910_001, 910_002, 910_003)
SHAPE = (32, 256, 256)
SOMA_SHARE = 0.02  # of the projection
MARGIN = 6  # pixels around what was added, in which nothing is compared


def plain(image: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    return image.astype(np.uint16), np.zeros(image.shape[1:], bool)


def soma(times: float):
    """A ball (squeezed to 12 slices) over 2 % of the projection, `times` as bright as the neurites, in a corner of the image."""

    def add(image: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        z, y, x = np.ogrid[tuple(map(slice, image.shape))]
        radius = np.sqrt(SOMA_SHARE * image.shape[1] * image.shape[2] / np.pi)
        center = [image.shape[0] / 2, image.shape[1] * 0.75, image.shape[2] * 0.25]
        distance = np.sqrt(
            ((z - center[0]) / 6) ** 2 + ((y - center[1]) / radius) ** 2 + ((x - center[2]) / radius) ** 2
        )
        glow = 1 / (1 + np.exp((distance - 1) / 0.03))
        spoilt = np.maximum(image, times * level * glow)
        plane = (y[0] - center[1]) ** 2 + (x[0] - center[2]) ** 2 < (1.3 * radius + MARGIN) ** 2
        return spoilt.astype(np.uint16), plane

    return add


def scale_bar(image: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    spoilt, where = image.astype(np.uint16), np.zeros(image.shape[1:], bool)
    spoilt[:, -14:-10, -50:-10] = 65535
    where[-14 - MARGIN :, -50 - MARGIN :] = True
    return spoilt, where


def hot_pixels(image: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    spoilt = image.astype(np.uint16)
    spoilt.reshape(-1)[np.random.default_rng(0).integers(0, image.size, 200)] = 65535
    return spoilt, np.zeros(image.shape[1:], bool)


def hot_slice(image: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    spoilt = image.astype(np.uint16)
    spoilt[len(image) // 2] += np.uint16(20 * level)
    return spoilt, np.zeros(image.shape[1:], bool)


def offset(image: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    return image.astype(np.uint16) * 16 + 1000, np.zeros(image.shape[1:], bool)


CHANGES = {
    "plain": plain,
    "soma, 3 x": soma(3),
    "soma, 10 x": soma(10),
    "soma, 30 x": soma(30),
    "scale bar": scale_bar,
    "hot pixels": hot_pixels,
    "hot slice": hot_slice,
    "12 bits in 16, offset": offset,
}


def dice(mask: np.ndarray, labels: np.ndarray, keep: np.ndarray) -> float:
    keep = keep & (labels != 255)
    found, gold = mask & keep, (labels == 1) & keep
    return 2 * np.count_nonzero(found & gold) / max(1, np.count_nonzero(found) + np.count_nonzero(gold))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="checkpoint (default: the embedded one)")
    parser.add_argument("--reported", type=Path, help="folder with scale_bar.tif and scale_bar_without.tif")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    segmenter = Segmenter(options.model)
    neurons = [synthetic_neuron(SHAPE, seed=seed) for seed in SEEDS]
    table = {name: [] for name in CHANGES}
    for neuron in neurons:
        labels = neuron.visible_labels()
        image = neuron.volume.array
        level = float(np.median(image[labels == 1]))
        base = segment(segmenter, image.astype(np.uint16)) >= 0.5
        for name, change in CHANGES.items():
            spoilt, where = change(image, level)
            keep = np.broadcast_to(~where, SHAPE)
            mask = segment(segmenter, spoilt) >= 0.5
            table[name].append((dice(mask, labels, keep), dice(base, labels, keep)))
            print(f"{name}: {table[name][-1][0]:.3f} (plain {table[name][-1][1]:.3f})", file=sys.stderr)
    lines = [
        "| | Dice of the neurites | as they are without | change |",
        "|---|---|---|---|",
        *(row(name, np.array(values)) for name, values in table.items()),
    ]
    lines += ["", inverted(segmenter, neurons[0].volume.array)]
    if options.reported:
        gold = read_swc(options.reported / "scale_bar_gold.swc")
        found = [
            tree_distance(trace(segmenter_scores(segmenter, options.reported / name)), gold)["f1"]
            for name in ("scale_bar_without.tif", "scale_bar.tif")
        ]
        lines += ["", f"scale_bar_without.tif F1 {found[0]:.3f}, scale_bar.tif F1 {found[1]:.3f}"]
    text = "\n".join(lines)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        title = "# One bright thing\n\nMade by `benchmarks/bright_things.py`.\n\n"
        options.output.write_text(title + text + "\n")
    return 0


def row(name: str, values: np.ndarray) -> str:
    found, without = values.mean(axis=0)
    return f"| {name} | {found:.3f} | {without:.3f} | {found / without - 1:+.1%} |"


def segment(segmenter: Segmenter, image: np.ndarray) -> np.ndarray:
    from neuron_vit3d import segment as segment_volume

    return segment_volume(Volume(image), segmenter).array


def segmenter_scores(segmenter: Segmenter, path: Path) -> Volume:
    from neuron_vit3d import segment as segment_volume

    return segment_volume(read_volume(path), segmenter)


def inverted(segmenter: Segmenter, image: np.ndarray) -> str:
    """What is said of the negative of an image, and how many voxels become other ones when it is inverted again."""
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logger = logging.getLogger("neuron_vit3d")
    logger.addHandler(handler)
    try:
        negative = (255 - image).astype(np.uint8)
        segment(segmenter, negative)
        segmenter.options = replace(segmenter.options, invert=True)
        again = segment(segmenter, negative) >= 0.5
        segmenter.options = replace(segmenter.options, invert=False)
        differ = np.count_nonzero(again != (segment(segmenter, image) >= 0.5))
    finally:
        logger.removeHandler(handler)
    return f"inverted: told {len(told)} time(s): {told[0] if told else 'nothing'}; read inverted, {differ} voxels of the mask differ"


if __name__ == "__main__":
    raise SystemExit(main())
