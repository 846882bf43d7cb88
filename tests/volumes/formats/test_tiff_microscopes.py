"""Stacks of Zeiss LSM, Olympus FluoView, MetaMorph STK and ScanImage: files with the tags that those programs
write."""

import struct
import warnings

import numpy as np
import pytest
import tifffile
from tifffile import TIFF

from neuron_vit3d.volumes import VolumeError, open_volume, read_volume


PAGES = (np.random.default_rng(0).random((12, 5, 6)) * 250).astype(np.uint16)
GREY = {"photometric": "minisblack", "metadata": None}


def assert_reads(path, expected):
    np.testing.assert_array_equal(read_volume(path).array, expected)
    channels = expected[None] if expected.ndim == 3 else expected
    for channel, one in enumerate(channels):
        with open_volume(path, channel=channel) as reader:
            np.testing.assert_array_equal(reader.read(0, len(one)), one)


def assert_refused(path, message):
    for read in (read_volume, open_volume):
        with pytest.raises(VolumeError, match=message) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def write_scanimage(path, pages, *, where="software", bigtiff=True, compression=None, **settings):
    text = "\n".join(f"{key.replace('_', '.')} = {value}" for key, value in settings.items())
    tag = {where: text} | ({"software": ""} if where == "description" else {})
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for page in pages:
            writer.write(page, contiguous=False, compression=compression, **GREY, **tag)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("frames", [{}, {"SI_hStackManager_framesPerSlice": 8, "SI_hScan2D_logAverageFactor": 8}])
def test_channels_of_scanimage_run_fastest(tmp_path, frames, compression):
    path = tmp_path / "a.tif"
    for channels, saved in ((2, "[1;2]"), (3, "[1 2 4]")):
        settings = {"SI_hChannels_channelSave": saved, "SI_hStackManager_numSlices": 12 // channels, **frames}
        write_scanimage(path, PAGES, compression=compression, **settings)
        assert_reads(path, PAGES.reshape(-1, channels, 5, 6).swapaxes(0, 1))
        with pytest.raises(VolumeError, match=f"has {channels} channels: choose one"):
            open_volume(path)
    settings = {f"scanimage_{key}": value for key, value in settings.items()}
    write_scanimage(path, PAGES, where="description", bigtiff=False, **settings)
    assert_reads(path, PAGES.reshape(-1, channels, 5, 6).swapaxes(0, 1))


def test_one_channel_of_scanimage_is_a_stack_as_long_as_it_is(tmp_path):
    path = tmp_path / "a.tif"
    for slices in (1, 10, 12, 60):  # the last was stopped early
        write_scanimage(path, PAGES, SI_hChannels_channelSave="2", SI_hStackManager_numSlices=slices)
        assert_reads(path, PAGES)
    write_scanimage(path, PAGES, where="description", bigtiff=False, state_acq_numberOfChannelsSave=1)
    assert_reads(path, PAGES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"SI_hChannels_channelSave": "1", "SI_hStackManager_framesPerSlice": 3}, "got 3 time points"),
        ({"SI_hChannels_channelSave": "[1;2]", "SI_hStackManager_framesPerSlice": "Inf"}, "got 6 time points"),
        ({"SI_hChannels_channelSave": "[1;2]", "SI_hStackManager_numSlices": 3}, "got 2 time points"),
        ({"SI_hChannels_channelSave": "[1;2;3;4;5]"}, "describes 2 slices x 5 channels, 10 planes, but holds 12"),
        (
            {"scanimage_SI5_channelsSave": "[1;2]"},
            "expected one channel of an early ScanImage, got 2; open the file in",
        ),
        ({"state_acq_numberOfChannelsSave": "2"}, "expected one channel of an early ScanImage, got 2"),
    ],
)
def test_what_scanimage_recorded_over_time_or_in_an_unknown_order_is_refused(tmp_path, settings, message):
    is_early = not any(key.startswith("SI_") for key in settings)
    where = {"where": "description", "bigtiff": False} if is_early else {}
    write_scanimage(tmp_path / "a.tif", PAGES, **where, **settings)
    assert_refused(tmp_path / "a.tif", message)


def write_lsm(path, slices, times=1, places=0, compression=None):
    """Full pages of one or more channels (z, c, y, x), each with its thumbnail."""
    info = np.zeros((), np.dtype(TIFF.CZ_LSMINFO))
    channels, height, width = slices.shape[1:]
    values = {
        "MagicNumber": 67127628,
        "StructureSize": info.dtype.itemsize,
        "DimensionX": width,
        "DimensionY": height,
        "DimensionZ": len(slices) // times // max(1, places),
        "DimensionChannels": channels,
        "DimensionTime": times,
        "DimensionP": places,
        "ScanType": 6 if times > 1 else 0,
    }
    for key, value in values.items():
        info[key] = value
    tag = [(34412, 1, info.nbytes, info.tobytes(), True)]
    options = {"compression": compression, **GREY}
    planar = {"planarconfig": "separate"} if channels > 1 else {}
    with tifffile.TiffWriter(path, byteorder="<") as writer:
        for page in slices:
            writer.write(page[0] if channels == 1 else page, contiguous=False, extratags=tag, **planar, **options)
            writer.write(page[0, ::2, ::2], contiguous=False, subfiletype=1, **options)
            tag = []


@pytest.mark.filterwarnings("ignore:.*differ from the first")
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_zeiss_lsm(tmp_path, channels):
    path, slices = tmp_path / "a.lsm", PAGES.reshape(-1, channels, 5, 6)
    write_lsm(path, slices)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].kind == "lsm"
    assert_reads(path, slices.swapaxes(0, 1) if channels > 1 else PAGES)
    write_lsm(path, slices, compression="zlib")
    assert_reads(path, slices.swapaxes(0, 1) if channels > 1 else PAGES)
    write_lsm(path, slices, times=2)
    assert_refused(path, "got 2 time points")
    write_lsm(path, slices, places=2)
    assert_refused(path, "an axis 'P' of length 2")


def write_fluoview(path, pages, dimensions):
    """`dimensions`: name and length, the fastest first, behind x and y."""
    header = np.zeros((), np.dtype(TIFF.MM_HEADER))
    for i, (name, length) in enumerate([("x", 6), ("y", 5), *dimensions]):
        header["Dimensions"][i]["Name"], header["Dimensions"][i]["Size"] = name.encode(), length
    tags = [(34361, 1, header.nbytes, header.tobytes(), True), (34362, 12, 8, (0.0,) * 8, True)]
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, contiguous=False, extratags=tags, **GREY)


def test_olympus_fluoview(tmp_path):
    path = tmp_path / "a.tif"
    write_fluoview(path, PAGES, [("Z", 4), ("Ch", 3)])
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_fluoview and tiff.fluoview_metadata["Dimensions"][3][:2] == ("Ch", 3)
    assert_reads(path, PAGES.reshape(3, 4, 5, 6))
    write_fluoview(path, PAGES, [("Wavelength", 2), ("Z", 6)])
    assert_reads(path, PAGES.reshape(6, 2, 5, 6).swapaxes(0, 1))
    for slices in (12, 20):
        write_fluoview(path, PAGES, [("Z", slices), ("T", 1)])
        assert_reads(path, PAGES)
    write_fluoview(path, PAGES, [("Z", 6), ("T", 2)])
    assert_refused(path, "got 2 time points")
    write_fluoview(path, PAGES, [("Z", 6), ("Event", 2)])
    assert_refused(path, "an axis 'R' of length 2")
    write_fluoview(path, PAGES, [("Z", 5), ("Ch", 2)])
    assert_refused(path, "describes 5 slices x 2 channels, 10 planes, but holds 12")


def write_stk(path, planes, heights=(1,), times=(0,), wavelengths=(488,)):
    """One directory whose tag UIC2 counts the planes; six numbers of each lie where the tag points, behind the
    planes."""

    def each(values):
        return (values * len(planes))[: len(planes)]

    def page(uic2, uic3):
        entries = [
            (254, 4, 1, 0),
            (256, 4, 1, planes.shape[2]),
            (257, 4, 1, planes.shape[1]),
            (258, 3, 1, 16),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, 8),
            (277, 3, 1, 1),
            (278, 4, 1, planes.shape[1]),
            (279, 4, 1, planes[0].nbytes),
            (33628, 4, 1, uic3 + 8 * len(planes)),  # UIC1: one entry, of no meaning
            (33629, 5, len(planes), uic2),
            (33630, 5, len(planes), uic3),
        ]
        return struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *one) for one in entries) + bytes(4)

    directory_at = 8 + planes.nbytes
    uic2_at = directory_at + len(page(0, 0))
    uic3_at = uic2_at + 24 * len(planes)
    uic2 = b"".join(struct.pack("<6I", z, 1, 0, t, 0, t) for z, t in zip(each(heights), each(times), strict=True))
    uic3 = b"".join(struct.pack("<2I", wavelength, 1) for wavelength in each(wavelengths))
    path.write_bytes(
        b"II*\0" + struct.pack("<I", directory_at) + planes.tobytes() + page(uic2_at, uic3_at) + uic2 + uic3 + bytes(8)
    )


def test_metamorph_stk(tmp_path):
    path, times = tmp_path / "a.stk", tuple(range(12))
    write_stk(path, PAGES)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_stk and tiff.stk_metadata["NumberPlanes"] == 12 and tiff.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tiff.asarray(), PAGES)
    assert_reads(path, PAGES)
    write_stk(path, PAGES, times=times)
    assert_reads(path, PAGES)
    write_stk(path, PAGES, heights=(0,))
    assert_reads(path, PAGES)
    write_stk(path, PAGES, heights=(0,), times=times)
    assert_refused(path, "got 12 time points")
    write_stk(path, PAGES, wavelengths=(488, 561))
    assert_refused(path, "got planes of 2 wavelengths; open the file in Fiji and save it as TIFF")
    path.write_bytes(path.read_bytes()[: 8 + PAGES.nbytes // 2])
    assert_refused(path, "truncated")


def test_damaged_tags_are_refused_or_read(tmp_path):
    random, path, contents = np.random.default_rng(0), tmp_path / "a.tif", []
    for write in (
        lambda: write_lsm(path, PAGES.reshape(-1, 2, 5, 6)),
        lambda: write_fluoview(path, PAGES[:4], [("Z", 2), ("Ch", 2)]),
        lambda: write_stk(path, PAGES),
        lambda: write_scanimage(path, PAGES[:4], SI_hChannels_channelSave="[1;2]", SI_hStackManager_numSlices=2),
    ):
        write()
        contents.append(path.read_bytes())
    for attempt in range(160):
        content = bytearray(contents[attempt % 4])
        content[random.integers(4, len(content))] ^= 1 << random.integers(8)
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert read_volume(path).array.nbytes <= len(content)
            except VolumeError as error:
                assert str(path) in str(error) and "\n" not in str(error)
