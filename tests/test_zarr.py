"""OME-Zarr 0.4 and 0.5 and plain zarr arrays: axes, voxel sizes, slices as they are asked for, and metadata that
lies."""

import json
import sys
import tracemalloc

import numpy as np
import pytest

from neuron_vit3d.volumes import VolumeError, is_volume_folder, open_volume, read_volume


zarr = pytest.importorskip("zarr")

ARRAY = np.arange(2 * 6 * 8 * 10, dtype=np.uint16).reshape(2, 6, 8, 10)  # c z y x


def write(
    path, array=ARRAY, axes="czyx", version=2, scale=None, unit="micrometer", image_scale=None, group=None, **options
):
    """An image of two resolutions, NGFF 0.4 (zarr 2) or 0.5 (zarr 3)."""
    root = zarr.open_group(path, mode="w", zarr_format=version)
    if group is not None:
        root.attrs["bioformats2raw.layout" if version == 2 else "ome"] = (
            3 if version == 2 else {"bioformats2raw.layout": 3}
        )
        root = root.create_group(group)
    for name, step in (("0", 1), ("1", 2)):
        data = array[..., ::step, ::step]
        chunks = tuple(min(4, size) for size in data.shape)
        root.create_array(name, shape=data.shape, chunks=chunks, dtype=data.dtype, **options)[:] = data
    named = [{"name": axis, "type": "space", **({"unit": unit} if axis in "zyx" and unit else {})} for axis in axes]
    image = {"axes": named, "version": "0.4", "datasets": [{"path": "0"}, {"path": "1"}]}
    if scale:
        image["datasets"][0]["coordinateTransformations"] = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": scale},
        ]
    if image_scale:
        image["coordinateTransformations"] = [{"type": "scale", "scale": image_scale}]
    if version == 2:
        root.attrs["multiscales"] = [image]
    else:
        root.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "f4"])
def test_the_highest_resolution_is_read(tmp_path, version, dtype):
    path = write(tmp_path / "a.zarr", ARRAY.astype(dtype), version=version)
    assert is_volume_folder(path)
    volume = read_volume(path)
    assert volume.dtype.isnative and volume.num_channels == 2
    np.testing.assert_array_equal(volume.array, ARRAY.astype(dtype))
    np.testing.assert_array_equal(read_volume(str(path), channel=1).array, ARRAY[1].astype(dtype))
    with open_volume(path, channel=1) as reader:
        assert reader.shape == (6, 8, 10) and reader.dtype == volume.dtype
        np.testing.assert_array_equal(reader.read(1, 6), ARRAY[1, 1:].astype(dtype))
    with pytest.raises(VolumeError, match="choose one with channel=0"):
        open_volume(path)
    with pytest.raises(VolumeError, match="expected a channel from 0 to 1, got 2"):
        read_volume(path, channel=2)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("axes", "source", "kept"),
    [
        ("zyx", ARRAY[0], ARRAY[0]),
        ("tczyx", ARRAY[None], ARRAY),
        ("tzyx", ARRAY[:1], ARRAY[0]),
        ("xyzc", ARRAY.transpose(), ARRAY),
        ("czyx", ARRAY[:1], ARRAY[0]),
    ],
)
def test_axes_are_told_by_their_names(tmp_path, axes, source, kept, version):
    path = write(tmp_path / "a.zarr", source, axes, version)
    np.testing.assert_array_equal(read_volume(path).array, kept)
    with open_volume(path, channel=0) as reader:
        np.testing.assert_array_equal(reader.read(2, 4), kept.reshape(-1, 6, 8, 10)[0, 2:4])


@pytest.mark.parametrize("version", [2, 3])
def test_voxel_sizes(tmp_path, version):
    def size(**options):
        return read_volume(write(tmp_path / "a.zarr", version=version, **options)).voxel_size

    assert size(scale=[1, 2, 0.5, 0.25]) == (2, 0.5, 0.25)
    assert size(scale=[1, 2000, 500, 250], unit="nanometer") == pytest.approx((2, 0.5, 0.25))
    assert size(scale=[1, 2, 0.5, 0.25], image_scale=[1, 3, 1, 2]) == pytest.approx((6, 0.5, 0.5))
    assert size(scale=[1, 2, 0.5, 0.25], unit=None) is None
    assert size() is None
    assert size(scale=[1, 0, 1, 1]) is None


@pytest.mark.parametrize("version", [2, 3])
def test_other_layouts(tmp_path, version):
    path = write(tmp_path / "series.zarr", version=version, group="0")  # as bioformats2raw writes it
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    zarr.create_array(tmp_path / "plain.zarr", data=ARRAY[0], chunks=(4, 4, 4), zarr_format=version)
    volume = read_volume(tmp_path / "plain.zarr")
    assert volume.voxel_size is None
    np.testing.assert_array_equal(volume.array, ARRAY[0])
    if version == 3:
        path = write(tmp_path / "sharded.zarr", ARRAY[0], "zyx", 3, shards=(8, 8, 16))
        np.testing.assert_array_equal(read_volume(path).array, ARRAY[0])


def test_only_the_slices_asked_for_are_read(tmp_path):
    path = write(tmp_path / "a.zarr", chunk_key_encoding={"name": "v2", "separator": "/"})
    with open_volume(path, channel=0) as reader:
        for chunk in (path / "0" / "0" / "1").rglob("*"):  # those of slices 4 and 5
            if chunk.is_file():
                chunk.write_bytes(b"damaged")
        np.testing.assert_array_equal(reader.read(0, 4), ARRAY[0, :4])
        with pytest.raises(VolumeError, match="damaged OME-Zarr chunks"):
            reader.read(3, 5)


def with_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


HUGE = 2**40


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "lie",
    [
        {"shape": [HUGE, HUGE, HUGE]},
        {"shape": [2**32, 2**32, 1]},
        {"shape": [-6, 8, 10]},
        {"shape": [0, 8, 10]},
        {"shape": ["six", 8, 10]},
        {"shape": [6, 80]},
        {"chunks": [HUGE, HUGE, HUGE]},
        {"chunks": [0, 4, 4]},
        {"chunks": [-4, 4, 4]},
        {"dtype": "<U9", "data_type": "string"},
        {"dtype": "|O", "data_type": "nonsense"},
    ],
    ids=str,
)
def test_lies_are_refused_before_memory_is_taken(tmp_path, lie, version):
    path = write(tmp_path / "a.zarr", ARRAY[0], "zyx", version)
    read_volume(path)

    def change(metadata):
        for key, value in lie.items():
            if key == "chunks" and version == 3:
                metadata["chunk_grid"]["configuration"]["chunk_shape"] = value
            elif key in metadata:
                metadata[key] = value

    with_json(path / "0" / (".zarray" if version == 2 else "zarr.json"), change)
    for read in (read_volume, open_volume):
        tracemalloc.start()
        try:
            with pytest.raises(VolumeError) as error:
                read(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert peak < 3_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["multiscales"][0]["axes"][0].update(name="t"), "2 time points"),
        (lambda a: a["multiscales"][0]["axes"].pop(), "expected axes z y x|not a readable"),
        (lambda a: a["multiscales"][0]["axes"][0].update(name="x"), "expected axes z y x"),
        (lambda a: a["multiscales"][0]["datasets"][0].update(path="../other"), "not a readable OME-Zarr image"),
        (lambda a: a["multiscales"][0]["datasets"][0].update(path="9"), "not a readable OME-Zarr image"),
        (lambda a: a["multiscales"][0].update(datasets=[]), "not a readable OME-Zarr image"),
        (lambda a: a.update(multiscales=[]), "without `multiscales`"),
        (lambda a: a.update(multiscales="many"), "not a readable OME-Zarr image"),
        (lambda a: a.pop("multiscales"), "without `multiscales`"),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_images_that_are_not_understood_are_refused(tmp_path, change, message, version):
    path = write(tmp_path / "a.zarr", version=version)
    if version == 2:
        with_json(path / ".zattrs", change)
    else:
        with_json(path / "zarr.json", lambda metadata: change(metadata["attributes"]["ome"]))
    with pytest.raises(VolumeError, match=message) as error:
        read_volume(path)
    assert "\n" not in str(error.value)


def test_damaged_metadata_and_chunks(tmp_path):
    random = np.random.default_rng(0)
    for version in (2, 3):
        path = write(tmp_path / f"{version}.zarr", ARRAY[0], "zyx", version)
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and "1" not in file.parts[-4:-1]]
        for _ in range(50):
            file = files[random.integers(len(files))]
            content = file.read_bytes()
            if random.integers(2):
                file.write_bytes(content[: random.integers(len(content))])
            else:
                where = random.integers(len(content))
                file.write_bytes(
                    content[:where] + bytes([content[where] ^ 1 << random.integers(8)]) + content[where + 1 :]
                )
            try:
                assert read_volume(path).array.nbytes < 1_000_000
            except VolumeError as error:
                assert "\n" not in str(error)
            file.write_bytes(content)


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(VolumeError, match=r'pip install "neuron_vit3d\[zarr\]"'):
        read_volume(path)
