"""The files of a prepared dataset: what is written is what `datasets` reads, without a copy and without this
package."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.data.dataset_files import (
    features,
    file_name,
    part_files,
    read_files,
    write_block_rows,
    write_readme,
    write_volume_row,
)
from neuron_vit3d.data.row_measures import as_cell


def row(name: str = "n") -> dict:
    return {name: None for name in features("volumes") if name not in ("image", "shape", "dtype")} | {
        "neuron_id": name,
        "swc": "1 0 0 0 0 1 -1",
    }


@settings(deadline=None, max_examples=20)
@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    dtype=st.sampled_from(["uint8", "uint16", ">u2", "int16", "float32", ">f4", "float64"]),
    layout=st.sampled_from(["C", "F", "strided"]),
)
def test_voxels_come_back(tmp_path_factory, shape, dtype, layout):
    image = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    image = (
        np.asfortranarray(image)
        if layout == "F"
        else np.repeat(image, 2, axis=2)[:, :, ::2]
        if layout == "strided"
        else image
    )
    path = tmp_path_factory.mktemp("x") / "volumes" / "train" / "n.arrow"
    assert write_volume_row(path, image, row()) == path.stat().st_size
    (read,) = read_files({"train": [path]}, "volumes")["train"]
    voxels = np.frombuffer(b"".join(read["image"]), read["dtype"]).reshape(read["shape"])
    assert np.array_equal(voxels, image) and len(read["image"]) == shape[0]
    assert read["dtype"] == image.dtype.newbyteorder("=").name and read["voxel_size"] is None
    assert [one.name for one in path.parent.iterdir()] == ["n.arrow"]


def test_parts_and_load_dataset(tmp_path):
    from datasets import load_dataset

    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        write_volume_row(
            tmp_path / "volumes" / part / f"neuron-{name}.arrow", np.zeros((2, 3, 4), np.uint8), row(name)
        )
        blocks = [dict.fromkeys(features("blocks")) | {"neuron_id": name, "image": b"1", "mask": b"2"}] * 40
        write_block_rows(tmp_path / "blocks" / part / f"neuron-{name}.arrow", blocks)
    write_readme(tmp_path)
    for config, rows in (("volumes", 2), ("blocks", 80)):
        own = read_files(part_files(tmp_path, config), config)
        own["train"].sort("neuron_id")  # datasets leaves a cache-*.arrow behind, which is none of ours
        assert list(own) == ["train", "test"] and len(own["train"]) == rows
        theirs = load_dataset(str(tmp_path), config, cache_dir=str(tmp_path / "cache"))
        assert theirs["train"].features == own["train"].features == features(config)
        assert theirs["train"][:] == own["train"][:] and theirs["test"][:] == own["test"][:]
        streamed = load_dataset(str(tmp_path), config, split="train", streaming=True)
        assert list(streamed) == list(own["train"])


def test_volumes_are_loaded_where_no_configuration_is_named_with_their_picture(tmp_path):
    from datasets import load_dataset
    from PIL import Image

    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    made = row() | {"thumbnail": as_cell(picture), "tips": 3, "extent_um": [1.0, 2.0, 3.0]}
    write_volume_row(tmp_path / "volumes" / "train" / "neuron-n.arrow", np.zeros((2, 3, 4), np.uint8), made)
    write_block_rows(tmp_path / "blocks" / "train" / "neuron-n.arrow", [dict.fromkeys(features("blocks"))])
    write_readme(tmp_path)
    (read,) = load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert np.array_equal(np.asarray(read["thumbnail"]), np.asarray(picture))
    assert (read["tips"], read["extent_um"], read["nodes"]) == (3, [1.0, 2.0, 3.0], None)


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def rows():
        yield dict.fromkeys(features("blocks")) | {"neuron_id": "n"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_block_rows(tmp_path / "blocks" / "n.arrow", rows())
    assert not list((tmp_path / "blocks").iterdir())


def test_file_names():
    assert file_name("g/s/näme (1)").startswith("neuron-g_s_n_me_1-") and file_name("a/b") != file_name("a_b")
    assert len(file_name("x" * 5000)) < 100
