"""A box is segmented and traced step by step, in voxels of the whole image, and says what a person should read."""

import numpy as np
import pytest

from neuron_vit3d import synthetic_neuron
from neuron_vit3d.apps.napari.layers import LayerError, Stack
from neuron_vit3d.apps.napari.segmenting import Request, moved, segmenting
from neuron_vit3d.morphology import check_tree
from support.trees import FORKED


NEURON = synthetic_neuron((12, 80, 80), seed=5, quality="clean", kind="dendrite")
BOX = (slice(2, 12), slice(8, 72), slice(16, 80))


def run(request: Request):
    """The shares that were told, and the result."""
    steps, shares = segmenting(request), []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as stop:
            return shares, stop.value


@pytest.mark.slow
def test_a_box_becomes_scores_and_a_tree_of_the_image():
    shares, result = run(Request(Stack("image", NEURON.volume.array, NEURON.volume.voxel_size), BOX, threshold=0.5))
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)
    assert result.scores.shape == (10, 64, 64) and 0 <= result.scores.min() <= result.scores.max() <= 1
    (tree,) = result.trees
    assert check_tree(tree) == []
    low, high = ([getattr(one, end) for one in BOX[::-1]] for end in ("start", "stop"))
    assert (tree.xyz >= np.array(low) - 0.5).all() and (tree.xyz <= np.array(high) - 0.5).all()


@pytest.mark.slow
def test_what_has_no_neuron_is_told_and_what_is_no_image_is_refused():
    noise = np.random.default_rng(0).integers(0, 9, (8, 48, 48)).astype(np.uint8)
    stack = Stack("noise", noise, None)
    _, result = run(Request(stack, stack.whole, threshold=1.0))
    assert result.trees == [] and "noise: no tree" in result.notes[-1]
    bright = Stack("bright", 255 - np.minimum(NEURON.volume.array, 255).astype(np.uint8), None)
    _, result = run(Request(bright, bright.whole))
    assert any("dark on bright" in note for note in result.notes)
    with pytest.raises(LayerError, match="outside"):
        run(Request(stack, (slice(0, 0), slice(0, 4), slice(0, 4))))


def test_a_tree_goes_to_the_image_and_back():
    there = moved(FORKED, BOX)
    np.testing.assert_array_equal(there.xyz, FORKED.xyz + np.array([16, 8, 2]))
    np.testing.assert_array_equal(moved(there, BOX, back=True).xyz, FORKED.xyz)
