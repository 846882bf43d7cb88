"""The table of odd files: each case runs to its end, and is read, or refused in one line."""

import sys

import pytest

from support.places import REPOSITORY


for library in ("nrrd", "nibabel", "zarr", "morphio", "h5py"):
    pytest.importorskip(library)

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import kinds  # noqa: E402  # where the libraries are not, this file is skipped
from kinds_images import IMAGE_KINDS  # noqa: E402
from kinds_trees import TREE_KINDS  # noqa: E402


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*IMAGE_KINDS, *TREE_KINDS])
def test_each_case_gives_a_result_or_one_line(kind):
    for what, make in {**IMAGE_KINDS, **TREE_KINDS}[kind].items():
        _, outcome = kinds.run(make)
        assert outcome.status in (0, 2), what
        if outcome.status:
            assert outcome.says.startswith("error: ") and " / " not in outcome.says and not outcome.came, what
        else:
            assert outcome.came, what


def test_a_case_that_is_told_and_one_that_is_refused():
    words, told = kinds.run(IMAGE_KINDS["A flat image"]["npy"])
    assert words == "convert a.npy out.tif" and told.status == 0
    assert told.says == "a.npy: is one 2D image 24 x 32, read as a volume of one slice"
    assert told.came == "1 x 24 x 32 uint8, voxel unknown, 768 above 0"
    _, refused = kinds.run(IMAGE_KINDS["Which axis holds channels"]["npy (z, y, x, c)"])
    assert refused.status == 2 and refused.came == "" and "looks like channels" in refused.says
