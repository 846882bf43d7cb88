"""The cases of `kinds.py` that are image files: a function each, which makes them and returns the command line."""

import bz2
import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import fuzz_files
import numpy as np


SHAPE = (4, 24, 32)  # z, y, x
ARRAY = np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.uint8)
Case = Callable[[], list[str]]


def convert(path: str, *more: str) -> list[str]:
    return ["convert", path, "out.tif", *more]


# -- makers -----------------------------------------------------------------------------------------------------------


def tif(array=ARRAY, name="a.tif", **options) -> str:
    import tifffile

    tifffile.imwrite(name, array, **{"photometric": "minisblack", **options})
    return name


def nrrd(array=ARRAY, *lines: str, encoding="raw", more=b"", kind="uint8") -> str:
    pack = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[encoding]
    sizes = " ".join(map(str, array.shape[::-1]))
    header = ["NRRD0005", f"type: {kind}", f"dimension: {array.ndim}", f"sizes: {sizes}", f"encoding: {encoding}"]
    Path("a.nrrd").write_bytes("\n".join([*header, *lines, "", ""]).encode() + pack(array.tobytes() + more))
    return "a.nrrd"


def nifti(array=ARRAY, name="a.nii", size=(1, 1, 1), unit="micron", more=b"") -> str:
    import nibabel

    image = nibabel.Nifti1Image(array.T, np.diag([*size[::-1], 1.0]))
    image.header.set_xyzt_units(unit)
    image.to_filename("a.nii")
    content = Path("a.nii").read_bytes() + more
    Path("a.nii").unlink()
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return name


def npy(*arrays) -> str:
    with open("a.npy", "wb") as file:
        for array in arrays:
            np.save(file, array)
    return "a.npy"


def v3draw(array=ARRAY, more=b"") -> str:
    sizes = struct.pack("<h4i", 1, *array.shape[::-1], 1)
    Path("a.v3draw").write_bytes(b"raw_image_stack_by_hpengL" + sizes + array.tobytes() + more)
    return "a.v3draw"


def v3dpbd(more=b"") -> str:
    sample = next(fuzz_files.v3dpbd(Path()))
    Path("a.v3dpbd").write_bytes(sample.files[""] + more)
    return "a.v3dpbd"


def zarr(array=ARRAY, axes="zyx", scale=None, unit="micrometer", described=True, series=()) -> str:
    import zarr as library

    root = library.open_group("a.ome.zarr", mode="w", zarr_format=2)
    for name in series or ("",):
        group = root.create_group(name) if name else root
        data = array if not name or name == series[-1] else array[:1]
        group.create_array("0", shape=data.shape, chunks=data.shape, dtype=data.dtype)[:] = data
        if not described:
            continue
        named = [{"name": axis, "type": "space", "unit": unit} for axis in axes]
        dataset = {"path": "0"}
        if scale:
            dataset["coordinateTransformations"] = [{"type": "scale", "scale": list(scale)}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": named, "datasets": [dataset]}]
    if series:
        root.attrs["bioformats2raw.layout"] = 3
    return "a.ome.zarr"


def imaris(array=ARRAY, size=(1.0, 0.5, 0.5), unit="um", comma=False) -> str:
    import h5py

    with h5py.File("a.ims", "w") as file:
        group = file.create_group("DataSet/ResolutionLevel 0/TimePoint 0/Channel 0")
        group.create_dataset("Data", data=array)
        info = file.create_group("DataSetInfo/Image").attrs
        info["Unit"] = unit
        for axis, (side, length) in enumerate(zip(size[::-1], array.shape[::-1], strict=True)):
            end = f"{side * length:g}"
            info[f"ExtMin{axis}"], info[f"ExtMax{axis}"] = "0", end.replace(".", ",") if comma else end
    return "a.ims"


def sized_tif(size, unit="um", ome=False, **metadata) -> str:
    if ome:
        units = {f"PhysicalSize{axis}Unit": unit for axis in "ZYX"}
        sides = {f"PhysicalSize{axis}": side for axis, side in zip("ZYX", size, strict=True)}
        return tif(name="a.ome.tif", ome=True, metadata={"axes": "ZYX", **sides, **units})
    resolution = (1 / size[2], 1 / size[1])
    return tif(
        imagej=True, resolution=resolution, metadata={"axes": "ZYX", "spacing": size[0], "unit": unit, **metadata}
    )


def sized_nrrd(size, unit="um") -> str:
    sides = " ".join(map(str, size[::-1]))
    return nrrd(ARRAY, f"spacings: {sides}", f'units: "{unit}" "{unit}" "{unit}"')


def two_sizes_tif() -> str:
    import tifffile

    with tifffile.TiffWriter("a.tif") as writer:
        writer.write(np.zeros((200, 300), np.uint8), photometric="minisblack", metadata=None)
        for plane in ARRAY:
            writer.write(plane, photometric="minisblack", metadata=None, contiguous=False)
    return "a.tif"


def two_images_ome() -> str:
    import tifffile

    with tifffile.TiffWriter("a.ome.tif", ome=True) as writer:
        writer.write(np.zeros((200, 300), np.uint8), photometric="minisblack", metadata={"axes": "YX", "Name": "map"})
        writer.write(ARRAY, photometric="minisblack", metadata={"axes": "ZYX", "Name": "stack"})
    return "a.ome.tif"


def cut_planes(make: Callable[[], str], old: bytes, new: bytes) -> str:
    """A file whose description announces more planes than there are."""
    path = Path(make())
    content = path.read_bytes()
    if content.count(old) < 1 or len(old) != len(new):
        raise ValueError(f"{path} does not say {old!r}")
    path.write_bytes(content.replace(old, new))
    return str(path)


def folder(*numbers: int) -> str:
    Path("slices").mkdir()
    for number in numbers:
        tif(ARRAY[number % len(ARRAY)], f"slices/{number:03}.tif")
    return "slices"


def replaced(path: str, old: str, new: str) -> str:
    """A file with other text; of a binary one as long as before."""
    content = Path(path).read_bytes()
    if old.encode() not in content:
        raise ValueError(f"{path} does not hold {old!r}")
    Path(path).write_bytes(content.replace(old.encode(), new.encode()))
    return path


def packbits_with_predictor() -> str:
    """A plane of differences, packed in literal runs (TIFF 6.0, sections 9 and 14)."""
    planes = [np.diff(plane, axis=1, prepend=np.uint8(0)).tobytes() for plane in ARRAY]
    content, link = b"II*\0\0\0\0\0", 4
    height, width = SHAPE[1:]
    for plane in planes:
        rows = [plane[i : i + 128] for i in range(0, len(plane), 128)]
        packed = b"".join(bytes([len(row) - 1]) + row for row in rows)
        strip = len(content)
        content += packed + b"\0" * (len(packed) % 2)
        content = content[:link] + struct.pack("<I", len(content)) + content[link + 4 :]
        tags = [(256, width), (257, height), (258, 8), (259, 32773), (262, 1), (273, strip), (277, 1), (278, height)]
        tags += [(279, len(packed)), (317, 2)]
        content += struct.pack("<H", len(tags)) + b"".join(
            struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
        )
        link = len(content)
        content += b"\0\0\0\0"
    Path("a.tif").write_bytes(content)
    return "a.tif"


# -- cases ------------------------------------------------------------------------------------------------------------

UNEVEN, NM, CHANNELS = (500.0, 0.25, 0.25), (500.0, 250.0, 250.0), np.stack([ARRAY, ARRAY, ARRAY])
LAST = np.moveaxis(CHANNELS, 0, -1)
LIST = "kinds: domain domain domain list"

IMAGE_KINDS: dict[str, dict[str, Case]] = {
    "Bytes behind the voxels": {
        "NRRD, raw": lambda: convert(nrrd(more=b"12345")),
        "NRRD, gzip": lambda: convert(nrrd(encoding="gzip", more=b"12345")),
        "NRRD, bzip2": lambda: convert(nrrd(encoding="bzip2", more=b"12345")),
        "NIfTI": lambda: convert(nifti(more=b"12345")),
        "NIfTI, gzip": lambda: convert(nifti(name="a.nii.gz", more=b"12345")),
        "npy, a second array": lambda: convert(npy(ARRAY, ARRAY)),
        "v3draw": lambda: convert(v3draw(more=b"12345")),
        "v3dpbd": lambda: convert(v3dpbd(more=b"12345"), "--channel", "0"),
    },
    "`byte skip: -1` of NRRD": {
        "raw, bytes before": lambda: convert(nrrd(ARRAY, "byte skip: -1")),
        "gzip": lambda: convert(nrrd(ARRAY, "byte skip: -1", encoding="gzip")),
        "raw, too few": lambda: convert(nrrd(ARRAY, "byte skip: -1", "endian: little", kind="double")),
    },
    "Which axis holds channels": {
        "NRRD, nothing said": lambda: convert(nrrd(CHANNELS), "--channel", "0"),
        "NRRD, kinds": lambda: convert(nrrd(CHANNELS, LIST), "--channel", "0"),
        "NRRD, labels": lambda: convert(nrrd(CHANNELS, 'labels: "x" "y" "z" "c"'), "--channel", "0"),
        "npy (z, y, x, c)": lambda: convert(npy(LAST), "--channel", "0"),
        "npy (y, x, c)": lambda: convert(npy(LAST[0])),
        "zarr (z, y, x, c)": lambda: convert(zarr(LAST, described=False), "--channel", "0"),
        "OME-Zarr (z, y, x, c)": lambda: convert(zarr(LAST, axes="zyxc"), "--channel", "0"),
        "TIFF (z, y, x, c)": lambda: convert(tif(LAST), "--channel", "0"),
        "TIFF, colours": lambda: convert(tif(LAST, photometric="rgb"), "--channel", "0"),
    },
    "A flat image": {
        "TIFF": lambda: convert(tif(ARRAY[0])),
        "npy": lambda: convert(npy(ARRAY[0])),
        "NRRD": lambda: convert(nrrd(ARRAY[0])),
        "NRRD, colours": lambda: convert(nrrd(LAST[0], "kinds: RGB-color domain domain"), "--channel", "0"),
        "NIfTI": lambda: convert(nifti(ARRAY[0])),
        "OME-Zarr": lambda: convert(zarr(ARRAY[0], axes="yx")),
        "v3draw, one slice by its header": lambda: convert(v3draw(ARRAY[:1])),
        "Imaris, one slice by its header": lambda: convert(imaris(ARRAY[:1])),
    },
    "Several images in a file": {
        "OME-TIFF": lambda: convert(two_images_ome()),
        "OME-TIFF, one asked for": lambda: convert(two_images_ome(), "--image", "0"),
        "TIFF, two sizes": lambda: convert(two_sizes_tif()),
        "OME-Zarr, series": lambda: convert(zarr(series=("0", "1"))),
        "OME-Zarr, one that is not there": lambda: convert(zarr(series=("0", "1")), "--image", "7"),
        "NRRD, which holds one": lambda: convert(nrrd(), "--image", "1"),
    },
    "Sides of a voxel that differ by more than 100 x": {
        "TIFF, ImageJ": lambda: convert(sized_tif(UNEVEN)),
        "OME-TIFF": lambda: convert(sized_tif(UNEVEN, "µm", ome=True)),
        "NRRD": lambda: convert(sized_nrrd(UNEVEN)),
        "NIfTI": lambda: convert(nifti(size=UNEVEN)),
        "OME-Zarr": lambda: convert(zarr(scale=UNEVEN)),
        "Imaris": lambda: convert(imaris(size=UNEVEN)),
    },
    "Units": {
        "TIFF, nm": lambda: convert(sized_tif(NM, "nm")),
        "TIFF, inch": lambda: convert(sized_tif((2e-5, 1e-5, 1e-5), "inch")),
        "OME-TIFF, nm": lambda: convert(sized_tif(NM, "nm", ome=True)),
        "NRRD, nm": lambda: convert(sized_nrrd(NM, "nm")),
        "NRRD, unknown": lambda: convert(sized_nrrd(NM, "furlong")),
        "NIfTI, mm": lambda: convert(nifti(size=(5e-4, 2.5e-4, 2.5e-4), unit="mm")),
        "OME-Zarr, nm": lambda: convert(zarr(scale=NM, unit="nanometer")),
        "Imaris, nm": lambda: convert(imaris(size=NM, unit="nm")),
    },
    "Decimal commas": {
        "OME-TIFF": lambda: convert(replaced(sized_tif((0.5, 0.25, 0.25), "µm", ome=True), '"0.25"', '"0,25"')),
        "TIFF, ImageJ": lambda: convert(replaced(sized_tif((0.5, 0.25, 0.25)), "spacing=0.5", "spacing=0,5")),
        "OME-Zarr": lambda: convert(zarr(scale=("0,5", "0,25", "0,25"))),
        "Imaris": lambda: convert(imaris(size=(0.55, 0.25, 0.25), comma=True)),
    },
    "Fewer planes than announced": {
        "OME-TIFF": lambda: convert(
            cut_planes(lambda: sized_tif((1, 1, 1), "µm", ome=True), b'SizeZ="4"', b'SizeZ="9"')
        ),
        "TIFF, ImageJ": lambda: convert(cut_planes(lambda: sized_tif((1, 1, 1)), b"slices=4", b"slices=9")),
        "a folder of slices": lambda: convert(folder(1, 2, 4, 5)),
        "v3draw": lambda: convert(replaced(v3draw(), "\x04\0\0\0\x01\0\0\0", "\x09\0\0\0\x01\0\0\0")),
        "NRRD": lambda: convert(replaced(nrrd(), "32 24 4", "32 24 9")),
        "NIfTI": lambda: convert(replaced(nifti(), "\x03\0\x20\0\x18\0\x04\0", "\x03\0\x20\0\x18\0\x09\0")),
    },
    "A predictor that libtiff and Fiji know none of": {
        "TIFF, PackBits": lambda: convert(packbits_with_predictor()),
    },
}
