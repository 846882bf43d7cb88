"""Is a trace of a real stack worse when its voxel size is known? Voxels of microscopes are deeper than wide.

python benchmarks/voxel_sizes.py       # writes results/voxel_sizes.md

The default's scores of stacks whose voxel size is known are traced without it, with it as it is (z counts as many
times as voxels are deeper than wide), and as `trace` does it: with z as deep as the neurites look. Only some dendrites
of rr30a are traced by hand, so its precision is too low for all.
"""

import os
from pathlib import Path

import numpy as np

from neuron_vit3d import Segmenter, Volume, read_swc, read_volume, segment, threshold_from_noise, trace, tree_distance
from neuron_vit3d.tracing import tracer


REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "voxel_sizes.md"
# z, y, x in micrometres, as their sources say.
SIZES = {
    "rr30a_tp0": (1.0, 0.24, 0.24),
    "rr30a_tp1": (1.0, 0.24, 0.24),
    "rr30a_tp2": (1.0, 0.24, 0.24),
    "spotspine": (0.2, 0.06, 0.06),
}


def main() -> None:
    folder = Path(os.environ.get("NEURON_VIT3D_SHARED", REPOSITORY.parent / "shared")) / "data" / "neurons"
    segmenter, looked = Segmenter(), tracer.seen_spacing
    rows = []
    for name, size in SIZES.items():
        gold = read_swc(folder / name / "trace.swc", mend_structure=True)
        scores = segment(read_volume(folder / name / "image.tif"), segmenter).array
        threshold = threshold_from_noise(scores)
        for how, voxel_size, spacing in (
            ("unknown", None, looked),
            ("known, as it is", size, lambda source, level, given, is_known: given),
            ("known, z as deep as it looks", size, looked),
        ):
            tracer.seen_spacing = spacing
            tree = trace(Volume(scores, voxel_size), threshold=threshold)
            figures = tree_distance(tree, gold)
            values = [f"{figures[key]:.3f}" for key in ("f1", "precision", "recall")]
            rows.append([name, how, *values, f"{tree.length / gold.length:.2f}", len(tree.branches)])
            print(*rows[-1], flush=True)
        tracer.seen_spacing = looked
    head = ["stack", "voxel size", "F1", "precision", "recall", "length / gold", "branches"]
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]]
    means = [
        f"{how}: {np.mean([float(row[2]) for row in rows if row[1] == how]):.3f}"
        for how in dict.fromkeys(row[1] for row in rows)
    ]
    text = ["# Voxel sizes", "", f"`{Path(__file__).name}`: {__doc__.splitlines()[0]}", "", *lines, ""]
    RESULTS.write_text("\n".join([*text, f"Mean F1: {'; '.join(means)}.", ""]))


if __name__ == "__main__":
    main()
