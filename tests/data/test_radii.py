"""Radii from the image: tubes and neurons of known radii, and a real dendrite without."""

from dataclasses import replace

import numpy as np
import pytest

from neuron_vit3d import synthetic_neuron
from neuron_vit3d.data.radii import estimate_radii
from neuron_vit3d.morphology import Tree, rasterize, read_swc
from neuron_vit3d.volumes import read_volume
from support.tubes import line, picture_of


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("given_radius", [1.0, 12.0])
@pytest.mark.parametrize("end", [[90, 40, 12], [8, 70, 15], [70, 66, 24]])
@pytest.mark.parametrize("radius", [2.5, 4.0, 6.0])
def test_the_radius_of_a_noisy_tube_is_found(radius, end, given_radius):
    tree = line([8, 8, 12], end, radius, steps=30)
    image = picture_of(tree, (32, 80, 96), noise=20)  # a fifth of the contrast
    estimated = estimate_radii(replace(tree, radii=np.full(len(tree), given_radius)), image)
    inner = estimated.radii[3:-3]  # at its ends a tube is a ball
    assert abs(np.median(inner) - radius) < 0.2 * radius
    assert np.abs(inner - radius).max() < 0.25 * radius


def test_a_trace_beside_its_neurite_measures_the_neurite():
    tree = line([8, 20, 12], [90, 50, 12], 4, steps=30)
    image = picture_of(tree, (24, 72, 96), noise=10)
    aside = replace(tree, xyz=tree.xyz + np.array([0.5, -1.5, 0.5]))
    assert np.abs(np.median(estimate_radii(aside, image).radii) - 4) < 0.6


def test_a_taper_is_followed():
    tree = replace(line([8, 36, 12], [140, 36, 12], 1, steps=66), radii=np.linspace(6, 2, 67))
    estimated = estimate_radii(replace(tree, radii=np.ones(67)), picture_of(tree, (24, 72, 150), noise=10))
    assert np.abs(estimated.radii - tree.radii)[3:-3].max() < 0.8


def test_where_the_image_says_nothing_the_given_radius_stays():
    tree = line([8, 8, 8], [40, 30, 8], 3, steps=10)
    outside = replace(tree, xyz=tree.xyz + np.array([500, 0, 0]))
    flat = np.full((16, 40, 48), 7, np.uint8)
    grain = np.random.default_rng(0).integers(0, 40, flat.shape).astype(np.uint8)
    np.testing.assert_array_equal(estimate_radii(outside, picture_of(tree, flat.shape)).radii, 3)
    np.testing.assert_array_equal(estimate_radii(tree, flat).radii, 3)
    inside_a_soma = np.pad(np.full((14, 90, 90), 200, np.uint8), 1)
    np.testing.assert_array_equal(estimate_radii(line([40, 40, 8], [50, 50, 8], 3, steps=4), inside_a_soma).radii, 3)
    assert np.mean(estimate_radii(tree, grain).radii == 3) > 0.8
    empty = Tree.from_parents(np.empty((0, 3)), np.empty(0), np.empty(0, dtype=int))
    assert len(estimate_radii(empty, flat)) == 0


def test_on_synthetic_neurons_masks_come_close_to_the_truth_whatever_was_given():
    """Radii of 1 throughout, or twice the true ones, make masks that overlap the truth by half and less."""
    scores = []
    for seed, kind in enumerate(("arbor", "dendrite", "axon", "arbor")):
        neuron = synthetic_neuron((24, 160, 160), seed=seed, kind=kind)
        image, tree = neuron.volume.array, neuron.tree
        wrong = [replace(tree, radii=np.ones(len(tree))), replace(tree, radii=2 * tree.radii)]
        estimated = [estimate_radii(one, image) for one in wrong]
        scores.append([dice(rasterize(one, image.shape, min_radius=1), neuron.mask) for one in (*wrong, *estimated)])
    ones, doubled, from_ones, from_doubled = np.mean(scores, axis=0)
    assert min(from_ones, from_doubled) > 0.75 > 0.5 > max(ones, doubled)


def test_an_image_of_other_axes_is_refused():
    with pytest.raises(ValueError, match=r"expected an image \(z, y, x\), got shape"):
        estimate_radii(line([1, 1, 1], [5, 5, 5], 1), np.zeros((2, 3, 4, 5)))


@pytest.mark.real_data
def test_placeholder_radii_give_way_to_what_the_image_shows(shared):
    """Radii of 1.5 throughout: with those of the image the mask goes with the intensities around the tree."""
    folder = shared / "data" / "neurons" / "rr30a_tp0"
    image, tree = np.asarray(read_volume(folder / "image.tif").array), read_swc(folder / "trace.swc")
    assert (tree.radii == 1.5).all()
    zone = rasterize(replace(tree, radii=np.full(len(tree), 10.0)), image.shape)
    fit = [
        np.corrcoef(rasterize(one, image.shape, min_radius=1)[zone], image[zone])[0, 1]
        for one in (tree, estimate_radii(tree, image))
    ]
    assert fit[1] > fit[0] + 0.08
