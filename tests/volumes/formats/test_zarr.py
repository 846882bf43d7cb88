"""OME-Zarr 0.4 and 0.5 and plain zarr arrays: axes, voxel sizes, slices as they are asked for, and metadata that
lies."""

import json
import sys
import tracemalloc

import numpy as np
import pytest

from neuron_vit3d.volumes import VolumeError, is_volume_folder, open_volume, read_volume
from support import processes


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


def told(path, message, **options):
    """The volume, of which a warning that fits is given by both doors."""
    with pytest.warns(UserWarning, match=message), open_volume(path, 0, **options) as reader:
        shape = reader.shape
    with pytest.warns(UserWarning, match=message):
        volume = read_volume(path, **options)
    assert volume.shape == shape
    return volume


def test_a_scale_that_does_not_fit_the_axes_costs_no_voxels(tmp_path):
    path = tmp_path / "a.zarr"
    volume = told(write(path, scale=[2, 0.5, 0.25]), "3 numbers for 4 axes: taken for those of the last axes")
    assert volume.voxel_size == (2, 0.5, 0.25)
    np.testing.assert_array_equal(volume.array, ARRAY)
    for scale in ([2, 0.5], [1, 1, 2, 0.5, 0.25], ["a", "b", "c"]):
        words = "taken for" if len(scale) == 3 else "no voxel size is taken"
        assert told(write(path, scale=scale), words).voxel_size is None
    for unit, size in (("inch", 25400.0), ("nanometer", 0.001), ("parsec", None)):
        voxel_size = read_volume(write(path, scale=[1, 1, 1, 1], unit=unit)).voxel_size
        assert voxel_size == (None if size is None else pytest.approx((size,) * 3))


def test_the_layout_of_version_0_6(tmp_path):
    path = write(tmp_path / "a.zarr", version=3)
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "czyx"]
    scale = {"type": "scale", "scale": [1, 2000, 500, 250]}

    def change(*transformations):
        def changed(metadata):
            image = metadata["attributes"]["ome"]["multiscales"][0]
            image.pop("axes", None)
            image["coordinateSystems"] = [{"name": "other", "axes": axes[::-1]}, {"name": "physical", "axes": axes}]
            image["datasets"][0]["coordinateTransformations"] = list(transformations)
            metadata["attributes"]["ome"]["version"] = "0.6"

        with_json(path / "zarr.json", changed)

    ends = {"input": "0", "output": "physical"}
    steps = [scale, {"type": "translation", "translation": [0, 1, 1, 1]}, {"type": "scale", "scale": [1, 1, 2, 2]}]
    for transformation, expected in (
        ({**scale, **ends}, (2, 0.5, 0.25)),
        ({"type": "sequence", "transformations": steps, **ends}, (2, 1, 0.5)),
        ({**scale, "input": {"path": "0"}, "output": {"name": "physical"}}, (2, 0.5, 0.25)),
    ):
        change(transformation)
        volume = read_volume(path)
        assert volume.voxel_size == pytest.approx(expected)
        np.testing.assert_array_equal(volume.array, ARRAY)
    change({"type": "affine", "affine": [[1, 0]], **ends})
    assert told(path, "placed by 'affine': no voxel size is taken").voxel_size is None


@pytest.mark.parametrize("version", [2, 3])
def test_series_labels_plates_and_arrays_that_nothing_describes(tmp_path, version):
    def group(path, attributes):
        root = zarr.open_group(path, mode="a", zarr_format=version)
        root.attrs.update(attributes if version == 2 else {"ome": attributes})

    small, flat = ARRAY[0, :3, :4, :4], ARRAY[0, :1]
    for kind, attributes, names in (
        ("series", {"bioformats2raw.layout": 3}, ("0", "1", "10")),
        ("labels", {"labels": ["soma", "dendrites", "axon"]}, ("soma", "dendrites", "axon")),
        ("well", {"well": {"images": [{"path": "0"}, {"path": "1"}, {"path": "2"}]}}, ("0", "1", "2")),
    ):
        path = tmp_path / f"{kind}.zarr"
        group(path, attributes)
        for name, array in zip(names, (flat, small, ARRAY[0]), strict=True):
            write(path / name, array, "zyx", version)
        title = f"'{names[2]}'; image 2 is read"
        np.testing.assert_array_equal(told(path, rf"holds 3 images .* 2 is 6 x 8 x 10 {title}").array, ARRAY[0])
        np.testing.assert_array_equal(read_volume(path, image=1).array, small)
        with pytest.raises(VolumeError, match="expected an image from 0 to 2"):
            open_volume(path, image=3)
    group(tmp_path / "plate.zarr", {"plate": {"wells": [{"path": "A/1"}]}})
    group(tmp_path / "plate.zarr" / "A" / "1", {"well": {"images": [{"path": "0"}]}})
    write(tmp_path / "plate.zarr" / "A" / "1" / "0", version=version)
    np.testing.assert_array_equal(read_volume(tmp_path / "plate.zarr").array, ARRAY)

    path = write(tmp_path / "lower_first.zarr", version=version)
    file = path / (".zattrs" if version == 2 else "zarr.json")
    with_json(file, lambda a: (a if version == 2 else a["attributes"]["ome"])["multiscales"][0]["datasets"].reverse())
    np.testing.assert_array_equal(told(path, "resolution '0' is read").array, ARRAY)
    with_json(file, lambda a: (a if version == 2 else a["attributes"]["ome"]).pop("multiscales"))
    np.testing.assert_array_equal(told(path, "holds 2 images .* image 0 is read").array, ARRAY)
    group(tmp_path / "empty.zarr", {})
    with pytest.raises(VolumeError, match="without `multiscales` or arrays"):
        read_volume(tmp_path / "empty.zarr")


def test_channels_in_the_last_axis_that_nothing_names_are_refused(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(2, 40, 40, 3), chunks=(1, 40, 40, 3), dtype="u1")
    with pytest.raises(VolumeError, match="whose last axis looks like channels"):
        read_volume(tmp_path / "a.zarr")


def test_dimensions_that_are_named_and_images_without_slices(tmp_path):
    last = np.ascontiguousarray(np.moveaxis(ARRAY, 0, -1))
    zarr.create_array(tmp_path / "named.zarr", data=last, dimension_names=["z", "y", "x", "channel"])
    np.testing.assert_array_equal(read_volume(tmp_path / "named.zarr").array, ARRAY)
    array = zarr.create_array(tmp_path / "xarray.zarr", data=last, zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["z", "y", "x", "c"]
    np.testing.assert_array_equal(read_volume(tmp_path / "xarray.zarr").array, ARRAY)
    path = write(tmp_path / "flat.zarr", ARRAY[:, 0], "cyx")
    np.testing.assert_array_equal(told(path, "one 2D image 8 x 10 with 2 channels").array, ARRAY[:, :1])


def test_a_volume_that_is_mostly_empty_is_read_by_region(tmp_path):
    side = 1 << 17
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(side,) * 3, chunks=(8, 8, 8), dtype="u1", fill_value=0, dimension_names=list("zyx")
    )
    array[8:10, 16:18, 24:30] = 7
    with open_volume(tmp_path / "a.zarr") as reader:
        assert reader.shape == (side,) * 3
        box = reader.read_box((slice(4, 20), slice(10, 20), slice(20, 40)))
        assert box.sum() == 7 * 24 and box[4, 6, 4] == 7
    with pytest.raises(VolumeError, match=r"stored bytes can hold at most .* open_volume reads a part"):
        read_volume(tmp_path / "a.zarr")


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
        (lambda a: a.update(multiscales="many"), "not a readable OME-Zarr image"),
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


@pytest.mark.parametrize("options", [{}, {"shards": (8, 8, 16)}], ids=["chunks", "shards"])
def test_a_blosc_chunk_is_not_read_beyond_its_end(tmp_path, options):
    """Blosc's C code believes what its header says, and reads from wherever that leads."""
    array = np.random.default_rng(0).integers(0, 9, (8, 8, 16), np.uint16)
    path = write(tmp_path / "a.zarr", array, "zyx", 3, compressors=zarr.codecs.BloscCodec(), **options)
    np.testing.assert_array_equal(read_volume(path).array, array)
    chunk = next(file for file in (path / "0").rglob("*") if file.is_file() and file.name != "zarr.json")
    sound = chunk.read_bytes()
    for place, lie in ((12, 2**31 - 1), (12, 17), (4, 2**31 - 1)):  # packed bytes, packed, unpacked
        chunk.write_bytes(sound[:place] + lie.to_bytes(4, "little") + sound[place + 4 :])
        with pytest.raises(VolumeError, match="damaged OME-Zarr chunks: ValueError: a Blosc header says") as error:
            read_volume(path)
        assert "\n" not in str(error.value)
        with open_volume(path) as reader, pytest.raises(VolumeError, match="a Blosc header says"):
            reader.read(0, reader.shape[0])


def test_more_chunks_than_can_be_looked_for_are_refused(tmp_path):
    shape = (30, 30, 30)
    array = zarr.create_array(tmp_path / "1.zarr", shape=shape, chunks=(1, 1, 1), dtype="u1")
    array[0, :6, :6] = 1
    with pytest.raises(VolumeError, match=r"chunks of \(1, 1, 1\), 27000 of them at once, but 37 files are there"):
        read_volume(tmp_path / "1.zarr")
    with open_volume(tmp_path / "1.zarr") as reader:
        assert reader.read_box((slice(0, 2), slice(3, 9), slice(3, 9))).sum() == 9


@pytest.mark.slow
def test_of_damaged_chunks_the_program_says_one_line(tmp_path):
    """zarr leaves the other chunks waiting, of which asyncio would tell when the program ends."""
    path = write(tmp_path / "a.zarr")
    for chunk in (file for file in (path / "0").rglob("*") if file.is_file() and file.name[0] != "."):
        chunk.write_bytes(b"no chunk")
    words = ["-m", "neuron_vit3d.cli", "convert", str(path), str(tmp_path / "a.tif"), "--channel", "0"]
    done = processes.run(words)
    assert done.returncode != 0 and done.stderr.count("\n") == 1, done.stderr


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(VolumeError, match=r'pip install "neuron_vit3d\[zarr\]"'):
        read_volume(path)
