"""Writes a picture of wild neurons: each volume's projection, the labels' outline below it, and what they measure.

    python benchmarks/wild_gallery.py wild.png --count 24 --first-seed 0 --backgrounds stack.tif other.tif

Red is the outline of what is labelled neuron, blue what is ignored.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from neuron_vit3d import read_volume
from neuron_vit3d.data import wild_neuron
from neuron_vit3d.data.wild import INGREDIENTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--count", type=int, default=16, help="neurons in the picture (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--shape", type=int, nargs=3, default=(24, 224, 224), metavar=("Z", "Y", "X"))
    parser.add_argument("--without", nargs="*", default=(), choices=INGREDIENTS)
    parser.add_argument("--backgrounds", type=Path, nargs="*", default=(), help="real stacks to put behind some")
    options = parser.parse_args()
    stacks = [first_channel(read_volume(path).array) for path in options.backgrounds]
    tiles, seconds, figures = [], [], []
    for seed in range(options.first_seed, options.first_seed + options.count):
        begin = time.process_time()
        neuron = wild_neuron(options.shape, seed=seed, without=options.without, backgrounds=stacks)
        seconds.append(time.process_time() - begin)
        tiles.append(tile(neuron.volume.array, neuron.labels))
        labels = neuron.labels
        figures.append(((labels == 1).mean(), (labels == 255).mean(), 1000 * neuron.tree.length / labels.size))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % options.columns)
    rows = [np.hstack(tiles[i : i + options.columns]) for i in range(0, len(tiles), options.columns)]
    Image.fromarray(np.vstack(rows)).save(options.picture)
    neurons, ignored, density = np.median(figures, axis=0)
    print(f"{np.mean(seconds):.2f} s of a core per neuron")
    print(
        f"medians: neuron {neurons:.2%} and ignored {ignored:.2%} of the voxels, {density:.2f} voxels of tree per 1000"
    )


def first_channel(array: np.ndarray) -> np.ndarray:
    """Give (z, y, x) of an array that may have channels before."""
    return array[0] if array.ndim == 4 else array


def tile(array: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(2 y, x, 3) uint8: the maximum projection, and the same with its labels."""
    flat = array.max(axis=0).astype(np.float32)
    low, high = np.percentile(flat, [1, 99.7])
    grey = (255 * np.clip((flat - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    plain = np.repeat(grey[..., None], 3, axis=2)
    outlined, neuron = plain.copy(), (labels == 1).any(axis=0)
    inner = neuron.copy()
    inner[1:] &= neuron[:-1]
    inner[:-1] &= neuron[1:]
    inner[:, 1:] &= neuron[:, :-1]
    inner[:, :-1] &= neuron[:, 1:]
    ignored = (labels == 255).any(axis=0) & ~neuron
    outlined[ignored, 2] = np.maximum(outlined[ignored, 2], 130)
    outlined[neuron & ~inner] = (255, 0, 0)
    return np.vstack([plain, outlined])


if __name__ == "__main__":
    main()
