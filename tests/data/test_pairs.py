"""Which image goes with which annotation, and what the labels of a pair are."""

from dataclasses import replace

import numpy as np
import pytest

from neuron_vit3d.data.labels import LabelPolicy
from neuron_vit3d.data.pairs import IGNORE_INDEX, DataError, Pair, find_pairs, read_pair
from neuron_vit3d.data.synthetic import synthetic_neuron, write_synthetic_pairs
from neuron_vit3d.morphology import SWCError, Tree, rasterize
from neuron_vit3d.volumes import Volume, VolumeError, read_volume, write_volume


SHAPE = (4, 12, 16)


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder) -> dict[str, tuple[str, str]]:
    """name -> (image, annotation), both relative to the folder."""
    return {
        pair.name: (pair.image.relative_to(folder).as_posix(), pair.annotation.relative_to(folder).as_posix())
        for pair in find_pairs(folder)
    }


def image(seed: int = 0, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape, dtype=np.uint8)


def line(*points, radius: float = 1.0) -> Tree:
    """A tree along points (x, y, z)."""
    return Tree.from_parents(np.array(points, float), np.full(len(points), radius), np.arange(len(points)) - 1)


def pair_of(folder, array=None, tree: Tree | None = None, **labels) -> Pair:
    """Writes an image with its tree, or with `mask=` or `labels=`, and finds them."""
    write_volume(folder / "a.tif", Volume(image() if array is None else array))
    if tree is not None:
        tree.write(folder / "a.swc")
    for kind, values in labels.items():
        write_volume(folder / f"a.{kind}.tif", Volume(values))
    (pair,) = find_pairs(folder)
    return pair


@pytest.mark.parametrize(
    ("files", "pairs"),
    [
        (["a.tif", "a.swc"], {"a": ("a.tif", "a.swc")}),
        (["a.tif", "a.tif.swc"], {"a": ("a.tif", "a.tif.swc")}),
        (["a.v3dpbd", "a.v3dpbd.eswc"], {"a": ("a.v3dpbd", "a.v3dpbd.eswc")}),
        (["a.TIF", "a.swc"], {"a": ("a.TIF", "a.swc")}),
        (["a.tiff", "a.mask.tif"], {"a": ("a.tiff", "a.mask.tif")}),
        (["a.v3draw", "a.labels.tif"], {"a": ("a.v3draw", "a.labels.tif")}),
        (["a.tif", "a.mask.tif", "a.swc"], {"a": ("a.tif", "a.swc")}),  # the tree first
        (["a.tif", "a.v3draw", "a.swc"], {"a": ("a.tif", "a.swc")}),  # one neuron in two formats
        (["b.tif", "b.swc", "a.tif", "a.swc", "c.tif"], {"a": ("a.tif", "a.swc"), "b": ("b.tif", "b.swc")}),
        (["n/1/image.tif", "n/1/gold.swc"], {"n/1": ("n/1/image.tif", "n/1/gold.swc")}),  # the only image and tree
        (["n/1/x.tif", "n/1/labels.tif"], {"n/1/x": ("n/1/x.tif", "n/1/labels.tif")}),
        (["n/1/x.tif", "n/1/mask.tif"], {"n/1/x": ("n/1/x.tif", "n/1/mask.tif")}),
        (["a.tif", "a.swc", ".b.tif", ".b.swc", ".hidden/c.tif", ".hidden/c.swc"], {"a": ("a.tif", "a.swc")}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_an_image_goes_with_the_annotation_that_bears_its_name(files, pairs, tmp_path):
    touch(tmp_path, *files)
    assert found(tmp_path) == pairs


def test_pairs_come_sorted_by_name(tmp_path):
    touch(tmp_path, "z.tif", "z.swc", "a/m.tif", "a/m.swc", "b.v3draw", "b.swc")
    assert [pair.name for pair in find_pairs(tmp_path)] == ["a/m", "b", "z"]


@pytest.mark.parametrize(
    "files",
    [[], ["a.tif"], ["a.swc"], ["a.tif", "b.tif", "c.swc"], ["a.tif", "b.swc", "c.swc"], ["mask.tif", "a.swc"]],
    ids=lambda files: "+".join(files) or "empty",
)
def test_a_folder_without_pair_is_refused(files, tmp_path):
    touch(tmp_path, *files)
    with pytest.raises(DataError, match="found no pair") as caught:
        find_pairs(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: expected a folder .* found no folder"):
        find_pairs(tmp_path / "nowhere")


def test_links_are_followed_and_each_folder_is_seen_once(tmp_path):
    touch(tmp_path, "elsewhere/n1/image.tif", "elsewhere/n1/gold.swc", "elsewhere/b.tif", "elsewhere/b.swc")
    root = tmp_path / "root"
    root.mkdir()
    (root / "n1").symlink_to(tmp_path / "elsewhere" / "n1")
    (root / "n1_again").symlink_to(tmp_path / "elsewhere" / "n1")
    (root / "loop").symlink_to(root)
    for name in ("b.tif", "b.swc"):
        (root / name).symlink_to(tmp_path / "elsewhere" / name)
    assert found(root) == {"b": ("b.tif", "b.swc"), "n1": ("n1/image.tif", "n1/gold.swc")}
    (tmp_path / "link").symlink_to(root)
    assert [pair.name for pair in find_pairs(tmp_path / "link")] == ["b", "n1"]


def test_a_tree_becomes_labels_with_its_radii_clipped(tmp_path):
    tree = line((2, 3, 1), (12, 3, 1), radius=0.2)
    pair = pair_of(tmp_path, tree=tree)
    volume = read_pair(pair)
    assert volume.name == "a"
    assert volume.image.shape == (1, *SHAPE) and np.array_equal(volume.image[0], image())
    assert volume.labels.dtype == np.uint8 and volume.labels.shape == SHAPE
    assert np.array_equal(volume.labels, rasterize(tree, SHAPE, min_radius=1.0))
    thick = line((2, 5, 1), (12, 5, 1), radius=4.0)
    thick.write(pair.annotation)
    clipped = read_pair(pair, policy=LabelPolicy(max_radius=1.5))
    assert np.array_equal(clipped.labels, rasterize(thick, SHAPE, max_radius=1.5))
    ignored = read_pair(pair, policy=LabelPolicy(edge_band=1.0)).labels == IGNORE_INDEX
    assert ignored.any() and not (read_pair(pair).labels == IGNORE_INDEX).any()


def test_a_synthetic_pair_is_read_as_it_was_made(tmp_path):
    (path,) = write_synthetic_pairs(tmp_path, 1, seed=3, shape=(6, 40, 48))
    (pair,) = find_pairs(tmp_path)
    volume = read_pair(pair, policy=LabelPolicy(min_radius=None))
    assert pair.image == path
    assert np.array_equal(volume.image[0], read_volume(path).array)
    assert volume.labels.shape == (6, 40, 48) and 0 < volume.labels.mean() < 0.5


@pytest.mark.parametrize("mark", [1, 255])
def test_in_a_mask_everything_but_zero_is_neuron(mark, tmp_path):
    mask = (image(1) > 150).astype(np.uint8)
    assert np.array_equal(read_pair(pair_of(tmp_path, mask=mask * np.uint8(mark))).labels, mask)


def test_labels_keep_what_is_to_be_ignored(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[1, 2:4], labels[2] = 1, IGNORE_INDEX
    read = read_pair(pair_of(tmp_path, labels=labels)).labels
    assert read.dtype == np.uint8 and np.array_equal(read, labels)


def test_other_label_values_are_refused(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[0, 0, :4] = 1, 2, 255, 300
    with pytest.raises(DataError, match=r"a\.labels\.tif: expected labels 0 .* found \[  2 300\]"):
        read_pair(pair_of(tmp_path, labels=labels))


@pytest.mark.parametrize("kind", ["mask", "labels"])
def test_another_shape_is_refused(kind, tmp_path):
    with pytest.raises(DataError, match=rf"a\.{kind}\.tif: expected .* \(4, 12, 16\), found \(4, 16, 12\)"):
        read_pair(pair_of(tmp_path, **{kind: np.ones((4, 16, 12), np.uint8)}))


@pytest.mark.parametrize(
    "annotation",
    [
        {"tree": line((500, 600, 70), (510, 600, 70))},
        {"mask": np.zeros(SHAPE, np.uint8)},
        {"labels": np.full(SHAPE, 255, np.uint8)},
    ],
    ids=["tree outside the image", "empty mask", "all ignored"],
)
def test_an_annotation_that_marks_nothing_is_refused(annotation, tmp_path):
    with pytest.raises(DataError, match=r"marks no voxel of a\.tif with shape \(4, 12, 16\)"):
        read_pair(pair_of(tmp_path, **annotation))


def test_one_channel_is_chosen_or_all_are_kept(tmp_path):
    array = np.stack([image(0), image(1)])
    pair = pair_of(tmp_path, array, tree=line((2, 3, 1), (12, 3, 1)))
    assert np.array_equal(read_pair(pair).image, array)
    assert np.array_equal(read_pair(pair, channel=1).image, array[1:])
    with pytest.raises(VolumeError, match="expected a channel from 0 to 1, got 2"):
        read_pair(pair, channel=2)


@pytest.mark.parametrize(
    ("value", "complaint"), [(np.nan, "1 NaN and 0 infinite"), (-np.inf, "0 NaN and 1 infinite"), (None, "in every")]
)
def test_an_image_that_cannot_be_learned_from_is_refused(value, complaint, tmp_path):
    array = np.zeros(SHAPE, np.float32)
    if value is not None:
        array[1, 2, 3] = value
    with pytest.raises(VolumeError, match=rf"a\.tif: .*{complaint}"):
        read_pair(pair_of(tmp_path, array, tree=line((2, 3, 1), (12, 3, 1))))


def test_a_trace_in_fragments_is_mended_and_a_cycle_refused(tmp_path):
    pair = pair_of(tmp_path, tree=line((2, 3, 1), (12, 3, 1)))
    pair.annotation.write_text("1 0 2 3 1 1 7\n2 0 12 3 1 1 1\n")
    with pytest.warns(UserWarning, match=r"a\.swc: 1 node\(s\) whose parent is missing became roots"):
        labels = read_pair(pair).labels
    assert labels[1, 3, 2:13].all()
    pair.annotation.write_text("1 0 2 3 1 1 2\n2 0 12 3 1 1 1\n")
    with pytest.raises(SWCError, match="cycle"):
        read_pair(pair)


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (lambda xyz: np.c_[xyz[:, 0], 95 - xyz[:, 1], xyz[:, 2]], "fits y flipped"),
        (lambda xyz: xyz * (0.5, 0.5, 2.0), "fits scaled by voxel size"),
        (lambda xyz: xyz[:, [1, 0, 2]], "fits x and y swapped"),
    ],
)
def test_a_tree_that_misses_its_neuron_is_refused_with_the_cause(moved, said, tmp_path):
    neuron = synthetic_neuron((16, 96, 96), seed=5, quality="clean")
    tree = replace(neuron.tree, xyz=moved(neuron.tree.xyz))
    write_volume(tmp_path / "a.tif", Volume(neuron.volume.array, (2.0, 0.5, 0.5)))
    tree.write(tmp_path / "a.swc")
    (pair,) = find_pairs(tmp_path)
    with pytest.raises(DataError, match=rf"a\.swc: misses the neuron of a\.tif: the tree {said}.* prepare` mends"):
        read_pair(pair)
    neuron.tree.write(tmp_path / "a.swc")
    assert (read_pair(pair).labels == 1).any()
