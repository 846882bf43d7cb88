"""The real sample: what comes with the package is small, whole, and what its README says."""

from neuron_vit3d import read_swc, read_volume
from neuron_vit3d.data.alignment import AS_IS, check_alignment
from neuron_vit3d.data.sample import SAMPLE_IMAGE, SAMPLE_TREE


def test_the_sample_is_small_and_its_tree_lies_on_it():
    volume = read_volume(SAMPLE_IMAGE)
    assert volume.shape == (28, 240, 240) and volume.voxel_size == (1.0, 0.24, 0.24)
    assert SAMPLE_IMAGE.stat().st_size < 1_000_000
    tree = read_swc(SAMPLE_TREE, mend_structure=True)
    assert check_alignment(tree, volume.array[None], volume.voxel_size).fit == AS_IS
    readme = (SAMPLE_IMAGE.parent / "README.md").read_text()
    assert "28 x 240 x 240" in readme and "MIT" in readme
    assert (SAMPLE_IMAGE.parent / "LICENSE").read_text().startswith("MIT License")
