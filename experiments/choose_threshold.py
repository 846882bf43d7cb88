"""Which score of a trained run is neuron? The traces of synthetic stacks full of tissue tell.

Neurites are rare in them.

python experiments/choose_threshold.py runs/wild --real data/wild/real/validation

Prints, by the logit of the score that is taken for the threshold, the mean Dice and the mean wide F1 of the trees over
five noisy synthetic stacks, and with --real the mean Dice of the labelled volumes there. `experiments/embed_default.py
--logit` takes the choice.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from neuron_vit3d import TraceError, Volume, segment, synthetic_neuron, trace, tree_distance
from neuron_vit3d.data.labels import IGNORE_INDEX
from neuron_vit3d.data.pairs import find_pairs, read_pair
from neuron_vit3d.evaluation.segmentation import overlap_scores
from neuron_vit3d.inference import Segmenter


LOGITS = range(10)
COUNT, FIRST_SEED, SHAPE = 5, 820_000, (32, 256, 256)  # no training draws these
LEAST = 1e-7  # scores nearer to 0 or 1 have no logit in float32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="output folder of scripts/train.py")
    parser.add_argument("--real", type=Path, help="folder of pairs with labels")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    segmenter, dice, trees, real = Segmenter(options.run), [], [], []
    for number in range(COUNT):
        neuron = synthetic_neuron(SHAPE, seed=FIRST_SEED + number, quality="noisy")
        logits = logits_of(segmenter, neuron.volume)
        dice.append(dice_by_logit(logits, neuron.visible_labels()))
        trees.append([wide_f1(logits - logit, neuron.tree) for logit in LOGITS])
        print(f"{number + 1}/{COUNT}", file=sys.stderr, flush=True)
    for pair in find_pairs(options.real) if options.real else ():
        volume = read_pair(pair)
        real.append(dice_by_logit(logits_of(segmenter, Volume(volume.image[0])), volume.labels))
    rows = {
        "Dice, noisy stacks": dice,
        "wide F1 of the trees, noisy stacks": trees,
        "Dice, labelled real volumes": real,
    }
    lines = [f"| logit | {' | '.join(map(str, LOGITS))} |", f"|---{'|---' * len(LOGITS)}|"]
    for name, values in rows.items():
        if values:
            lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in np.mean(values, axis=0))} |")
    text = "\n".join(["# Threshold of a trained run\n", "Made by `experiments/choose_threshold.py`.\n", *lines])
    print(text)
    if options.output:
        options.output.write_text(text + "\n")
    return 0


def logits_of(segmenter: Segmenter, volume: Volume) -> np.ndarray:
    scores = np.clip(segment(volume, segmenter).array.astype(np.float64), LEAST, 1 - LEAST)
    return np.log(scores / (1 - scores))


def dice_by_logit(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    valid = labels != IGNORE_INDEX
    return [overlap_scores(logits[valid] >= logit, labels[valid] == 1)["dice"] for logit in LOGITS]


def wide_f1(logits: np.ndarray, gold) -> float:
    try:
        tree = trace((1 / (1 + np.exp(-logits))).astype(np.float32))
    except TraceError:  # nothing is left
        return 0.0
    return tree_distance(tree, gold)["f1_wide"]


if __name__ == "__main__":
    raise SystemExit(main())
