"""TIFF stacks of every kind that microscopes' programs write, written here by tifffile and Pillow as those programs
would."""

import struct
import tracemalloc
import warnings

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neuron_vit3d.volumes import Volume, VolumeError, check_signal, open_volume, read_volume, write_volume
from support.tiff_files import packbits, packed_by_libtiff, tiff_of, with_predictor


QUICK = settings(max_examples=25, deadline=None)
SIZES = (0.5, 0.11, 0.12)
RESOLUTION = (1 / SIZES[2], 1 / SIZES[1])
GREY = {"photometric": "minisblack"}  # else tifffile takes 3 slices for RGB


def image(shape, dtype=np.uint16, seed=0):
    return (np.random.default_rng(seed).random(shape) * 250).astype(dtype)


def assert_reads(path, expected, voxel_size=None):
    """All ways to read agree: mapped, in memory, one channel, slices."""
    for memory_map in (True, False):
        volume = read_volume(path, memory_map=memory_map)
        assert volume.dtype == expected.dtype and volume.dtype.isnative
        np.testing.assert_array_equal(volume.array, expected)
    if voxel_size is None:
        assert volume.voxel_size is None
    else:
        np.testing.assert_allclose(volume.voxel_size, voxel_size, rtol=1e-5)
    channel = volume.num_channels - 1
    one = expected[channel] if expected.ndim == 4 else expected
    np.testing.assert_array_equal(read_volume(path, channel=channel).array, one)
    with open_volume(path, channel=channel) as reader:
        assert (reader.shape, reader.dtype, reader.voxel_size) == (one.shape, one.dtype, volume.voxel_size)
        np.testing.assert_array_equal(reader.read(0, len(one)), one)
        np.testing.assert_array_equal(reader.read(len(one) - 1, len(one)), one[-1:])
        box = tuple(slice(length // 2, length) for length in one.shape)
        np.testing.assert_array_equal(reader.read_box(box), one[box])


@pytest.mark.parametrize(
    "options",
    [{}, {"bigtiff": True}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}],
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_plain_stacks(tmp_path, byteorder, options):
    array = image((5, 20, 33))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, byteorder=byteorder, metadata=None, **GREY, **options)
    assert_reads(path, array)
    tifffile.imwrite(path, array, byteorder=byteorder, **GREY, **options)  # tifffile's own description
    assert_reads(path, array)


def test_pages_written_one_by_one_with_a_printers_resolution(tmp_path):
    array = image((4, 6, 7), np.uint8)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in array:
            writer.write(plane, contiguous=False, metadata=None, resolution=(300, 300), resolutionunit="INCH")
    assert_reads(path, array)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_codecs_that_tifffile_lacks_alone(tmp_path, compression, dtype):
    array = image((3, 9, 8), dtype)
    path = tmp_path / "a.tif"
    planes = [Image.fromarray(plane) for plane in array]
    planes[0].save(path, save_all=True, append_images=planes[1:], compression=compression)
    assert_reads(path, array)


def test_a_codec_that_nothing_here_decodes_is_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image((2, 16, 16), np.uint8), metadata=None)
    path.write_bytes(with_tag(path.read_bytes(), 259, 34887))
    with pytest.raises(VolumeError, match=r"LERC compression of uint8 voxels.* pip install .neuron_vit3d\[codecs\]"):
        read_volume(path)


def test_inches_finer_than_printers_dots_are_a_microscopes(tmp_path):
    array, path = image((3, 5, 6)), tmp_path / "a.tif"
    description = "ImageJ=1.53c\nimages=3\nslices=3\nunit=inch\nspacing=0.0001\n"
    tifffile.imwrite(path, array, description=description, metadata=None, resolution=(25400, 25400), **GREY)
    assert_reads(path, array, (2.54, 1.0, 1.0))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "predictor"),
    [("u1", 2), ("i2", 1), ("u2", 2), ("i4", 1), ("u8", 1), ("f4", 1), ("f2", 3), ("f4", 3), ("f8", 3)],
)
@pytest.mark.parametrize(("compression", "tag"), [("tiff_lzw", 5), ("zstd", 50000), ("packbits", 32773)])
def test_every_dtype_of_codecs_that_tifffile_lacks(tmp_path, compression, tag, dtype, predictor, samples, order):
    """Pillow by itself gives wrong voxels of some of these without a word."""
    array = image((2, 9, 8, samples), np.uint16, 1).astype(np.dtype(dtype).newbyteorder(order))
    data = [with_predictor(plane, predictor) for plane in array]
    try:
        planes = [packbits(one) if tag == 32773 else packed_by_libtiff(one, compression) for one in data]
    except OSError:
        pytest.skip(f"this Pillow writes no {compression}")
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(planes, array.shape[1:], array.dtype, tag, predictor))
    array = array.astype(array.dtype.newbyteorder("="))
    assert_reads(path, np.moveaxis(array, -1, 0) if samples > 1 else array[..., 0])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_values_are_as_stored_where_zero_is_white(tmp_path, dtype, compression):
    array, path = image((3, 9, 8), np.uint8) > 99 if dtype is bool else image((3, 9, 8), dtype), tmp_path / "a.tif"
    planes = [Image.fromarray(plane) for plane in array]
    planes[0].save(path, save_all=True, append_images=planes[1:], compression=compression)
    stored = read_volume(path).array
    np.testing.assert_array_equal(stored, array)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for page in tiff.pages:
            page.tags[262].overwrite(0)
    assert_reads(path, stored)


def test_the_shape_that_old_versions_of_tifffile_wrote(tmp_path):
    array, path = image((3, 4, 5, 6)), tmp_path / "a.tif"

    def write(shape, planes, **options):
        tifffile.imwrite(path, planes, description=f"shape={shape}", metadata=None, **GREY, **options)

    for options in ({}, {"compression": "zlib"}):
        write((3, 5, 6), array[:, 0], **options)
        assert_reads(path, array[:, 0])
        write((3, 5, 6, 1), array[:, 0], **options)
        assert_reads(path, array[:, 0])
        write(array.shape, array.reshape(-1, 5, 6), **options)
        assert_reads(path, array)
    write((1, 1, 3, 5, 6), array[:, 0])
    assert_reads(path, array[:, 0])
    write((4, 5, 6), array[:, 0])
    assert_refused(path, r"describes an array \(4, 5, 6\), but holds 3 planes \(5, 6\)")
    write("(5, 6)", array[0, 0])
    assert_tells(path, "is one 2D image 5 x 6", (1, 5, 6))
    for wrong in ("(3, 5, __import__)", "()", "(3, -5, 6)"):
        write(wrong, array[:, 0])
        assert_refused(path, "not a readable TIFF file")


@pytest.mark.parametrize(
    ("unit", "factor"), [("um", 1), ("micron", 1), ("µm", 1), ("\\u00B5m", 1), ("nm", 1e-3), ("mm", 1e3), ("cm", 1e4)]
)
def test_imagej_units(tmp_path, unit, factor):
    array, path = image((3, 5, 6)), tmp_path / "a.tif"
    description = f"ImageJ=1.53c\nimages=3\nslices=3\nunit={unit}\nspacing={SIZES[0]}\nloop=false\n"
    tifffile.imwrite(
        path, array, description=description.encode(), metadata=None, resolution=RESOLUTION, byteorder=">", **GREY
    )
    assert_reads(path, array, np.array(SIZES) * factor)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("unit=um", (1.0, SIZES[1], SIZES[2])),  # ImageJ leaves a spacing of 1 out
        ("unit=um\nspacing=-2.0\nzunit=nm", (0.002, SIZES[1], SIZES[2])),
        ("unit=pixel\nspacing=2.0", None),
        ("unit=inch\nspacing=2.0", None),
        ("unit=um\nspacing=2,5", (2.5, SIZES[1], SIZES[2])),
        ("spacing=2.0", None),
        ("unit=um\nspacing=0.0", None),
        ("unit=um\nspacing=much", None),
    ],
)
def test_imagej_calibrations(tmp_path, lines, expected):
    array, path = image((3, 5, 6)), tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        array,
        description=f"ImageJ=1.53c\nimages=3\nslices=3\n{lines}\n",
        metadata=None,
        resolution=RESOLUTION,
        **GREY,
    )
    assert_reads(path, array, expected)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_imagej_hyperstack_with_channels(tmp_path, options):
    array, path = image((3, 4, 5, 6)), tmp_path / "a.tif"
    metadata = {"axes": "ZCYX", "spacing": SIZES[0], "unit": "um"}
    tifffile.imwrite(path, array, imagej=True, metadata=metadata, resolution=RESOLUTION, **options)
    assert_reads(path, array.swapaxes(0, 1), SIZES)
    with pytest.raises(VolumeError, match=r"has 4 channels: choose one with channel=0 \.\. 3"):
        open_volume(path)
    with pytest.raises(VolumeError, match="expected a channel from 0 to 3, got 4"):
        read_volume(path, channel=4)


def test_imagej_describes_planes_that_have_no_directory(tmp_path):
    """As ImageJ saves stacks above 4 GB: one directory, all planes behind it."""
    array, path = image((2, 3, 5, 6)), tmp_path / "a.tif"
    tifffile.imwrite(path, array[0, 0], description="ImageJ=1\nimages=6\nchannels=3\nslices=2\n", metadata=None)
    assert_refused(path, "describes 2 slices x 3 channels, 6 planes, but holds 1")
    with path.open("ab") as file:
        file.write(array.reshape(6, 5, 6)[1:].tobytes())
    assert_reads(path, array.swapaxes(0, 1))


def test_rgb_samples_are_channels(tmp_path):
    array, path = image((4, 5, 6, 3), np.uint8), tmp_path / "a.tif"
    for options in ({}, {"compression": "zlib"}, {"metadata": None}, {"imagej": True, "metadata": {"axes": "ZYXS"}}):
        tifffile.imwrite(path, array, photometric="rgb", **options)
        assert_reads(path, np.moveaxis(array, -1, 0))
    tifffile.imwrite(path, np.moveaxis(array, -1, 1), photometric="rgb", planarconfig="separate")
    assert_reads(path, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize(("axes", "order"), [("ZCYX", (1, 0, 2, 3)), ("CZYX", (0, 1, 2, 3))])
@pytest.mark.parametrize(("unit", "factor"), [("µm", 1), ("nm", 1e-3)])
def test_ome(tmp_path, axes, order, unit, factor):
    array, path = image((3, 4, 5, 6)), tmp_path / "a.ome.tif"
    metadata = {"axes": axes}
    for axis, size in zip("ZYX", SIZES, strict=True):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    tifffile.imwrite(path, array, metadata=metadata, **GREY, compression="zlib")
    assert_reads(path, array.transpose(order), np.array(SIZES) * factor)


def test_ome_keeps_its_own_order_of_pages(tmp_path):
    array, path = image((3, 5, 6)), tmp_path / "a.tif"
    entries = "".join(f'<TiffData IFD="{2 - z}" FirstZ="{z}"/>' for z in range(3))
    write_ome(path, array, 'SizeZ="3" SizeC="1" SizeT="1" DimensionOrder="XYZCT"', entries)
    assert_reads(path, array[::-1])


def write_ome(path, array, sizes, entries="", uuid=""):
    xml = (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{uuid}><Image '
        'ID="Image:0">'
        f'<Pixels ID="Pixels:0" Type="uint16" SizeX="6" SizeY="5" {sizes}>{entries}</Pixels></Image></OME>'
    )
    tifffile.imwrite(path, array, description=xml, metadata=None, **GREY)


def assert_refused(path, message):
    for read in (read_volume, open_volume):
        with pytest.raises(VolumeError, match=message) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def assert_tells(path, message, shape):
    """Both doors read a volume of this shape, and say so; returns its voxels."""
    with pytest.warns(UserWarning, match=message):
        array = read_volume(path).array
    with pytest.warns(UserWarning, match=message), open_volume(path, 0) as reader:
        assert reader.shape == shape
    assert array.shape[-3:] == shape
    return array


def test_what_is_no_stack_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    for options in ({"imagej": True, "metadata": {"axes": "TZYX"}}, {"ome": True, "metadata": {"axes": "TZYX"}}):
        tifffile.imwrite(path, image((7, 3, 5, 6)), **GREY, **options)
        assert_refused(path, "expected one stack of slices, got 7 time points")
    tifffile.imwrite(path, np.zeros((3, 5, 6), np.complex64), **GREY)
    assert_refused(path, "complex64")


def test_a_flat_image_is_one_slice(tmp_path):
    path, array = tmp_path / "a.tif", image((51, 52))
    for options in ({}, {"metadata": None}, {"imagej": True}, {"ome": True}):
        tifffile.imwrite(path, array, **options)
        read = assert_tells(path, "is one 2D image 51 x 52, read as a volume of one slice", (1, 51, 52))
        np.testing.assert_array_equal(read[0], array)
    tifffile.imwrite(path, image((51, 52, 3), np.uint8), photometric="rgb")
    assert_tells(path, "is one 2D image 51 x 52 with 3 channels", (1, 51, 52))


def test_slices_called_channels_are_slices_with_a_warning(tmp_path):
    array, path = image((9, 5, 6)), tmp_path / "a.tif"
    tifffile.imwrite(path, array, imagej=True)
    with pytest.warns(UserWarning, match="9 channels of one slice are read as 9 slices"):
        np.testing.assert_array_equal(read_volume(path).array, array)
    tifffile.imwrite(path, array[:7], imagej=True)
    assert_tells(path, "is one 2D image 5 x 6 with 7 channels", (1, 5, 6))


def test_of_several_images_the_largest_stack_is_read(tmp_path):
    array, path = image((3, 20, 30)), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in array:
            writer.write(plane, contiguous=False, metadata=None)
            writer.write(plane[:5, :5], contiguous=False, metadata=None)
    read = assert_tells(path, "holds 2 images .*0 is 3 x 20 x 30, 1 is 3 x 5 x 5; image 0 is read", array.shape)
    np.testing.assert_array_equal(read, array)
    with tifffile.TiffWriter(path) as writer:  # a label or thumbnail that nothing marks as one, larger than the stack
        writer.write(image((90, 90)), **GREY)
        writer.write(array, **GREY)
    np.testing.assert_array_equal(assert_tells(path, "image 1 is read", array.shape), array)
    np.testing.assert_array_equal(read_volume(path, image=1).array, array)
    assert_tells(path, "1 is 3 x 20 x 30", array.shape)
    with pytest.raises(VolumeError, match="expected an image from 0 to 1"):
        read_volume(path, image=2)
    with open_volume(path, image=1) as reader:
        np.testing.assert_array_equal(reader.read(0, 3), array)
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(array[0, ::4, ::4], **GREY, metadata={"Name": "overview"})
        writer.write(array, **GREY, metadata={"axes": "ZYX", "Name": "stack"})
    np.testing.assert_array_equal(
        assert_tells(path, "0 is 1 x 5 x 8 'overview', 1 is 3 x 20 x 30", array.shape), array
    )
    with pytest.warns(UserWarning, match="one 2D image 5 x 8"):
        np.testing.assert_array_equal(read_volume(path, image=0).array[0], array[0, ::4, ::4])


@pytest.mark.parametrize("marked", [True, False])
def test_lower_resolutions_are_left_out(tmp_path, marked):
    array, path = image((3, 20, 32)), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in array:  # below a full-size page, each described by itself
            writer.write(plane, subifds=1 if marked else 0, **GREY)
            writer.write(plane[::2, ::2], subfiletype=1, metadata=None, **GREY)
    assert_reads(path, array)
    with tifffile.TiffWriter(path) as writer:  # thumbnails that have the full-size pages below them
        for plane in array:
            writer.write(plane[::4, ::4], subfiletype=1, subifds=1, metadata=None, **GREY)
            writer.write(plane, metadata=None, **GREY)
    assert_reads(path, array)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}])
def test_pages_that_each_describe_themselves_are_a_stack(tmp_path, options):
    array, path = image((5, 6, 7)), tmp_path / "a.tif"
    for plane in array:
        tifffile.imwrite(path, plane, append=path.exists(), **GREY, **options)
    assert_reads(path, array)
    colours = image((4, 6, 7, 3), np.uint8)
    with tifffile.TiffWriter(path) as writer:
        for plane in colours:
            writer.write(plane, photometric="rgb")
    assert_reads(path, np.moveaxis(colours, -1, 0))
    with tifffile.TiffWriter(path) as writer:
        for slab in (array[:2], array[2:4]):
            writer.write(slab, **GREY)
    np.testing.assert_array_equal(assert_tells(path, "holds 2 images", (2, 6, 7)), array[:2])


def test_of_a_stopped_acquisition_whole_slices_are_read(tmp_path):
    array, path = image((6, 5, 6)), tmp_path / "a.tif"
    order = 'DimensionOrder="XYCZT"'
    write_ome(path, array, f'SizeZ="10" SizeC="1" SizeT="1" {order}')
    np.testing.assert_array_equal(assert_tells(path, "describes 10 slices .* holds 6 planes", (6, 5, 6)), array)
    write_ome(path, array[:5], f'SizeZ="10" SizeC="2" SizeT="4" {order}')  # stopped within a slice
    read = assert_tells(path, "10 slices x 2 channels x 4 times, but holds 5 .* 2 slices x 2 channels", (2, 5, 6))
    np.testing.assert_array_equal(read, array[:4].reshape(2, 2, 5, 6).swapaxes(0, 1))
    write_ome(path, array, 'SizeZ="4" SizeC="3" SizeT="1" DimensionOrder="XYZCT"')  # within a channel
    np.testing.assert_array_equal(assert_tells(path, "2 slices x 2 channels are read", (2, 5, 6))[0], array[:2])
    write_ome(path, array, f'SizeZ="1{"0" * 12}" SizeC="1" SizeT="1" {order}', f'<TiffData PlaneCount="1{"0" * 12}"/>')
    assert_tells(path, "describes 1000000000000 slices", (6, 5, 6))
    for lines, shape in (
        ("slices=9", (6, 5, 6)),
        ("slices=9\nchannels=2", (3, 5, 6)),
        ("frames=7\nslices=6", (6, 5, 6)),
    ):
        text = f"ImageJ=1.54f\nimages=18\n{lines}\n"
        tifffile.imwrite(path, array, description=text, metadata=None, **GREY)
        assert_tells(path, r"describes \d+ planes, but holds 6", shape)
    write_ome(path, array, f'SizeZ="6" SizeC="1" SizeT="2" {order}', '<TiffData IFD="0" PlaneCount="9"/>')
    assert_tells(path, "6 slices x 1 channels", (6, 5, 6))
    missing = "".join(f'<TiffData IFD="{z}" FirstZ="{2 * z}"/>' for z in range(3))
    write_ome(path, array[:3], f'SizeZ="5" SizeC="1" SizeT="1" {order}', missing)
    assert_refused(path, "between those it holds some are missing")


def test_ome_that_cannot_be_read_costs_no_voxels(tmp_path):
    array, path = image((6, 5, 6)), tmp_path / "a.tif"
    sizes = 'SizeZ="3" SizeC="2" SizeT="1" DimensionOrder="XYCZT"'
    write_ome(path, array, sizes)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"</Pixels></Image>", b"</Pixel & /Image>"))
    read = assert_tells(path, "OME-XML is broken", (3, 5, 6))
    np.testing.assert_array_equal(read, array.reshape(3, 2, 5, 6).swapaxes(0, 1))
    for wrong in ('SizeZ="3"', 'SizeZ="-3" SizeC="1" SizeT="-1" DimensionOrder="XYZCT"', 'SizeZ="a" SizeC="b"'):
        write_ome(path, array, wrong)
        np.testing.assert_array_equal(assert_tells(path, "OME-XML cannot be used", (6, 5, 6)), array)
    write_ome(path, array, sizes + ' PhysicalSizeX="0,25" PhysicalSizeY="0.25" PhysicalSizeZ="0,5"')
    with pytest.warns(UserWarning, match="x '0,25': read as z, y, x 0.5, 0.25, 0.25 um"):
        assert read_volume(path).voxel_size == (0.5, 0.25, 0.25)
    write_ome(path, array, sizes + ' PhysicalSizeX="1,000" PhysicalSizeY="1.0" PhysicalSizeZ="1.0"')
    with pytest.warns(UserWarning, match="x '1,000': not used"):
        assert read_volume(path).voxel_size is None


def test_a_voxel_with_uneven_sides_is_told_of(tmp_path):
    path = tmp_path / "a.tif"
    for z, told in ((25.0, False), (26.0, True)):
        tifffile.imwrite(
            path,
            image((3, 5, 6)),
            ome=True,
            metadata={"axes": "ZYX", "PhysicalSizeZ": z, "PhysicalSizeY": 0.25, "PhysicalSizeX": 0.25},
            **GREY,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with open_volume(path):
                pass
            read_volume(path)
        assert ["differ by more than 100 x" in str(one.message) for one in caught] == [True] * 2 * told


def test_a_set_of_ome_files_is_refused(tmp_path):
    array, path = image((3, 5, 6)), tmp_path / "a.tif"
    order = 'DimensionOrder="XYZCT"'
    other = '<TiffData IFD="0" FirstZ="2"><UUID FileName="b.tif">urn:uuid:b</UUID></TiffData>'
    mine = "".join(
        f'<TiffData IFD="{z}" FirstZ="{z}"><UUID FileName="a.tif">urn:uuid:a</UUID></TiffData>' for z in range(2)
    )
    write_ome(path, array, f'SizeZ="3" SizeC="1" SizeT="1" {order}', mine + other, ' UUID="urn:uuid:a"')
    assert_refused(path, "holds 2 of the 3 planes that its OME-XML names")
    sizes = f'SizeZ="3" SizeC="1" SizeT="1" {order}'
    write_ome(path, array, sizes)
    path.write_bytes(path.read_bytes().replace(b'<?xml version="1.0"?>', b"<!DOCTYPE a><!--ab-->"))
    assert_refused(path, "without a document type")


def with_tag(content, tag, value):
    """The bytes of a little-endian classic TIFF with one inline value of its first directory replaced."""
    content = bytearray(content)
    (offset,) = struct.unpack_from("<I", content, 4)
    for i in range(struct.unpack_from("<H", content, offset)[0]):
        at = offset + 2 + 12 * i
        if struct.unpack_from("<H", content, at)[0] == tag:
            struct.pack_into("<HII", content, at + 2, 4, 1, value)
            return bytes(content)
    raise AssertionError(f"tag {tag} is not there")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_sizes_that_the_file_cannot_fill_are_refused_before_memory_is_taken(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image((1, 40, 40), np.uint8)[0], metadata=None, **options)
    content = path.read_bytes()
    wide, long = 256, 257
    path.write_bytes(with_tag(with_tag(content, wide, 2**20), long, 2**20))
    tracemalloc.start()
    try:
        assert_refused(path, "cannot come from its .* stored bytes")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    (offset,) = struct.unpack_from("<I", content, 4)
    path.write_bytes(content[:offset] + struct.pack("<HHHII", 1, 273, 4, 2**31, 8) + bytes(4))
    assert_refused(path, "the values of TIFF tag 273 lie beyond the file's")
    path.write_bytes(content[:4] + struct.pack("<I", len(content)))
    assert_refused(path, "expected a TIFF directory at byte")
    path.write_bytes(content[:4] + struct.pack("<I", 8) + struct.pack("<HHHIII", 1, 256, 4, 1, 5, 8))
    assert_refused(path, "the chain of TIFF directories returns to byte 8")
    path.write_bytes(content[:6])
    assert_refused(path, "truncated|no directory")


@pytest.mark.slow
def test_damaged_files_are_refused_or_read_and_take_little_memory(tmp_path):
    """200 cuts and bit flips of six files: VolumeError or a volume, no other error, no more memory than the bytes
    allow."""
    random = np.random.default_rng(0)
    array, path, contents = image((4, 3, 16, 16), np.uint8), tmp_path / "a.tif", []
    for options in ({"imagej": True}, {"ome": True}, {}):
        for compression in (None, "zlib"):
            kind = {"metadata": {"axes": "ZCYX"}} if options else {"metadata": None}
            tifffile.imwrite(path, array, **GREY, compression=compression, **kind, **options)
            contents.append(path.read_bytes())
    refused = 0
    for attempt in range(200):
        content = bytearray(contents[attempt % 6])
        if attempt % 4 == 0:
            content = content[: random.integers(len(content))]
        else:  # most of these files is header
            content[random.integers(4, len(content))] ^= 1 << random.integers(8)
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert read_volume(path).array.nbytes <= 1100 * len(content)
        except VolumeError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 20_000_000, (attempt, peak)
    assert refused > 80


@QUICK
@given(
    shape=st.lists(st.integers(1, 5), min_size=3, max_size=4),
    dtype=st.sampled_from("u1 u2 u4 i1 i2 i4 i8 f2 f4 f8".split()),
    voxel_size=st.none() | st.tuples(*[st.floats(1e-3, 1e3)] * 3),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read(tmp_path_factory, shape, dtype, voxel_size, seed):
    array = image(shape, dtype, seed)
    path = write_volume(tmp_path_factory.mktemp("tiff") / "a.tif", Volume(array, voxel_size))
    assert_reads(path, array[0] if array.ndim == 4 and len(array) == 1 else array, voxel_size)


@pytest.mark.real_data
def test_real_neurons_are_read(shared):
    paths = sorted((shared / "data/neurons").glob("*/image.tif"))
    assert len(paths) >= 10
    for path in paths:
        with open_volume(path) as reader:
            assert len(reader.shape) == 3 and reader.dtype in (np.uint8, np.uint16)
            middle = reader.shape[0] // 2
            slices = reader.read(middle - 1, middle + 1)
        np.testing.assert_array_equal(slices, tifffile.imread(path, key=[middle - 1, middle]))
        check_signal(Volume(slices))
