"""Measure wild neurons, the earlier synthetic ones and real ones in the same way, and print quantiles of each figure.

    python benchmarks/wild_figures.py --count 60 --real ../shared/data/neurons/tuff_* --backgrounds stack.tif

Per neuron, over the nodes of its tree: contrast above the background within 14 voxels (grey levels of 255), its lowest
decile, the standard deviation of its logarithm, half the width at half maximum in a slice (`estimate_radii`) and along
z, contrast over the grain of neighboring pixels; and what is labelled. Real folders hold `image.tif` and `trace.swc`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter, uniform_filter1d

from neuron_vit3d import read_swc, read_volume
from neuron_vit3d.data import synthetic_neuron, wild_neuron
from neuron_vit3d.data.radii import estimate_radii
from neuron_vit3d.morphology import SWCError, Tree


_REACH_Z = 11  # voxels looked at above and below a node
_UNKNOWN = 1e-3  # a radius that `estimate_radii` leaves where it can tell nothing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="neurons of each synthetic kind (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--real", type=Path, nargs="*", default=())
    parser.add_argument("--backgrounds", type=Path, nargs="*", default=())
    options = parser.parse_args()
    stacks = [read_volume(path).array for path in options.backgrounds]
    seeds = range(options.first_seed, options.first_seed + options.count)
    rows = []
    for folder in options.real:
        try:
            tree = read_swc(folder / "trace.swc", repair=True)
        except SWCError as error:
            print(f"left out: {error}")
            continue
        rows.append(measure(read_volume(folder / "image.tif").array, tree))
    show("real", rows)
    shape = (24, 224, 224)
    neurons = (synthetic_neuron(shape, seed=seed) for seed in seeds)
    show("synthetic_neuron", [measure(n.volume.array, n.tree) for n in neurons])
    rows = []
    for seed in seeds:
        neuron = wild_neuron(shape, seed=seed, backgrounds=stacks)
        labels = neuron.labels
        of_labels = {"labelled %": 100 * (labels == 1).mean(), "ignored %": 100 * (labels == 255).mean()}
        rows.append(measure(neuron.volume.array, neuron.tree) | of_labels)
    show("wild_neuron", rows)


def measure(array: np.ndarray, tree: Tree) -> dict[str, float]:
    """Give the figures of one neuron."""
    image = array.astype(np.float32)
    if array.dtype != np.uint8:
        image *= 255 / max(float(np.percentile(image, 99.9)), 1e-6)
    at = np.clip(np.rint(tree.xyz[:, ::-1]).astype(int), 0, np.array(image.shape) - 1)
    smooth = uniform_filter(image, (1, 3, 3))
    peak, behind = (np.array([f(*place) for place in at]) for f in (_peak_of(smooth), _median_of(image)))
    contrast = peak - behind
    grain = 1.4826 * float(np.median(np.abs(np.diff(image[::2], axis=2)))) / np.sqrt(2)
    typical = float(np.median(contrast))
    radii = estimate_radii(replace(tree, radii=np.full(len(tree), _UNKNOWN)), image).radii
    return {
        "contrast": typical,
        "lowest decile": float(np.percentile(contrast, 10)),
        "std of log": float(np.log(np.maximum(contrast, max(0.02 * typical, 1e-3))).std()),
        "half-width": float(np.median(radii[radii > _UNKNOWN])) if (radii > _UNKNOWN).any() else np.nan,
        "half-width z": _half_width_along_z(smooth, at, 2 * grain),
        "contrast/grain": typical / max(grain, 0.05),
    }


def _peak_of(smooth: np.ndarray):
    def peak(z: int, y: int, x: int) -> float:
        return smooth[max(0, z - 1) : z + 2, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max()

    return peak


def _median_of(image: np.ndarray):
    def behind(z: int, y: int, x: int) -> float:
        return np.median(image[max(0, z - 1) : z + 2, max(0, y - 14) : y + 15 : 2, max(0, x - 14) : x + 15 : 2])

    return behind


def _half_width_along_z(smooth: np.ndarray, at: np.ndarray, least: float) -> float:
    """Half of the median width at half maximum of the profiles along z, averaged over five nodes."""
    offsets = np.arange(-_REACH_Z, _REACH_Z + 1)
    slices = np.clip(at[:, :1] + offsets, 0, len(smooth) - 1)
    profiles = uniform_filter1d(smooth[slices, at[:, 1:2], at[:, 2:]], 5, axis=0)
    widths = []
    for profile in profiles:
        middle = _REACH_Z - 2 + int(np.argmax(profile[_REACH_Z - 2 : _REACH_Z + 3]))
        low = np.percentile(profile, 20)
        if profile[middle] - low <= least:
            continue
        below = np.flatnonzero(profile < (profile[middle] + low) / 2)
        first = below[below < middle].max(initial=-1)
        last = below[below > middle].min(initial=len(offsets))
        widths.append(last - first - 1)
    return float(np.median(widths)) / 2 if widths else np.nan


def show(name: str, rows: list[dict[str, float]]) -> None:
    """Print the quantiles of each figure."""
    if not rows:
        return
    print(f"{name} ({len(rows)})   5 %, 25 %, 50 %, 75 %, 95 %")
    for key in rows[0]:
        quantiles = np.nanpercentile([row[key] for row in rows], [5, 25, 50, 75, 95])
        print(f"  {key:16s}" + "".join(f"{q:9.2f}" for q in quantiles))


if __name__ == "__main__":
    main()
