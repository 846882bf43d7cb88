"""The main job from beginning to end on two samples: python scripts/demo.py [folder]

Runs the same command line as a user would with the embedded default model: on real dendrites, of which some were
traced by hand, and on a synthetic neuron whose whole tree is known; and compares the results with those trees.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from neuron_vit3d import read_swc, read_volume, segmentation_scores, synthetic_neuron, tree_distance, write_volume
from neuron_vit3d.data.labels import IGNORE_INDEX
from neuron_vit3d.data.sample import SAMPLE_IMAGE, SAMPLE_TREE


SEED = 2026  # not among the seeds of the training data (experiments/prepare_default_data.py)


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    trace_real(folder)
    trace_synthetic(folder)
    print(f"{time.monotonic() - started:.0f} seconds")
    return 0


def trace_real(folder: Path) -> None:
    """Traces the real dendrites, and says how much of those traced by hand is found."""
    image, gold = folder / "dendrites.tif", folder / "dendrites.gold.swc"
    shutil.copyfile(SAMPLE_IMAGE, image)
    shutil.copyfile(SAMPLE_TREE, gold)
    print(f"{image}  real dendrites, two-photon microscopy (PyMapManager-Data, MIT licence)\n")
    run("segment", image, "-o", folder)
    tree = read_swc(folder / "dendrites.swc")
    found = tree_distance(tree, read_swc(gold, mend_structure=True))
    print(f"\nvalid SWC with {len(tree.roots)} root and {len(tree)} nodes: {folder / 'dendrites.swc'}")
    print(f"picture, the tree in red: {folder / 'dendrites.png'}")
    print(
        f"of the dendrites traced by hand {found['recall']:.1%} is found within {found['threshold']:g} voxels "
        "(others in the image are not traced, so nothing is said of what else was found)\n"
    )


def trace_synthetic(folder: Path) -> None:
    """Traces a synthetic neuron and compares mask and tree with what is known of it."""
    sample, gold_swc = folder / "sample.tif", folder / "sample.gold.swc"
    neuron = synthetic_neuron((48, 256, 256), seed=SEED, kind="arbor")
    write_volume(sample, neuron.volume)
    neuron.tree.write(gold_swc)
    print(f"{sample}  a synthetic neuron, {' x '.join(map(str, neuron.volume.shape))} voxels (z y x), seed {SEED}\n")

    run("segment", sample, "-o", folder)
    run("view", sample, folder / "sample.swc", "--gold", gold_swc, "-o", folder / "sample.compared.png")

    tree = read_swc(folder / "sample.swc")
    found, seen = read_volume(folder / "sample.mask.tif"), neuron.visible_labels()
    masks = segmentation_scores(found, seen == 1, ignore=seen == IGNORE_INDEX)
    thin = segmentation_scores(found, neuron.mask)
    trees = tree_distance(tree, neuron.tree)
    print(f"\nvalid SWC with {len(tree.roots)} root and {len(tree)} nodes: {folder / 'sample.swc'}")
    print(f"picture, the tree in red: {folder / 'sample.png'}; over the known tree: {folder / 'sample.compared.png'}")
    print(f"mask against the neuron as wide as it is seen: Dice {masks['dice']:.3f}, clDice {masks['cldice']:.3f}")
    print(f"mask against the neuron at its true radii, narrower than its image: Dice {thin['dice']:.3f}")
    print(
        f"tree against the known one: F1 {trees['f1']:.3f} within {trees['threshold']:g} voxels "
        f"(precision {trees['precision']:.3f}, recall {trees['recall']:.3f}), ESA {trees['esa']:.2f} voxels"
    )


def run(*arguments) -> None:
    """Runs neuron-vit3d as a user would; stops the demo where it fails."""
    words = [str(argument) for argument in arguments]
    print("$ neuron-vit3d", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "neuron_vit3d.cli", *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    raise SystemExit(main())
