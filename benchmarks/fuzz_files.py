"""Small sound files of each kind for `fuzz.py`, and how they are damaged."""

import bz2
import gzip
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np


SHAPE = (3, 9, 10)  # z, y, x of the images: some 300 voxels, so that headers are as large a target as voxels


class Sample(NamedTuple):
    """A sound file, as bytes; of a folder the files by their names."""

    suffix: str
    files: dict[str, bytes]
    packed: bool = False  # gzipped as a whole: damaged inside as often as outside

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))


class Kind(NamedTuple):
    """A kind of file.

    Args:
        samples: makes sound files of it in a folder.
        worth: bytes of memory that a stored byte can rightly become, by what its compression can do at most.
        is_tree: whether it is a tree, not a volume.
    """

    samples: Callable[[Path], Iterator[Sample]]
    worth: int
    is_tree: bool = False


# -- sound files ------------------------------------------------------------------------------------------------------


def image(dtype="u1", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Flat parts, slopes and noise."""
    steps = np.random.default_rng(0).choice([0, 0, 0, 0, 1, -1, 2, 0, 0, 50, -49], size=shape)
    return np.cumsum(steps).reshape(shape).astype(dtype)


def tiff(folder: Path) -> Iterator[Sample]:
    from PIL import Image

    for dtype, options in (
        ("u1", {}),
        ("u2", {"compression": "zlib", "predictor": True}),
        (">u2", {"byteorder": ">", "rowsperstrip": 4}),
        ("f4", {"tile": (16, 16), "compression": "zlib"}),
        ("u1", {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"spacing": 0.5, "unit": "um", "axes": "ZYX"}}),
        ("u2", {"bigtiff": True}),
    ):
        yield _tiff(folder / "a.tif", image(dtype), **{"metadata": {"axes": "ZYX"}, **options})
    for compression in ("tiff_lzw", "packbits", "zstd", "jpeg"):  # tifffile needs a library more, Pillow has them
        first, *others = [Image.fromarray(plane) for plane in image()]
        first.save(folder / "a.tif", save_all=True, append_images=others, compression=compression)
        yield Sample(".tif", {"": (folder / "a.tif").read_bytes()})
    yield _tiff(folder / "a.tif", image("u1", (3, 9, 10, 3)), photometric="rgb", compression="zlib")


def ome_tiff(folder: Path) -> Iterator[Sample]:
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (1.0, 0.25, 0.25), strict=True)}
    for dtype, axes, options in (
        ("u1", "ZYX", {}),
        ("u2", "CZYX", {"compression": "zlib"}),
        ("u1", "ZCYX", {"bigtiff": True}),
    ):
        shape = {"ZYX": SHAPE, "CZYX": (2, *SHAPE), "ZCYX": (SHAPE[0], 2, *SHAPE[1:])}[axes]
        yield _tiff(folder / "a.ome.tif", image(dtype, shape), ome=True, metadata={"axes": axes, **sizes}, **options)


def _tiff(path: Path, array: np.ndarray, **options) -> Sample:
    from tifffile import imwrite

    imwrite(path, array, **{"photometric": "minisblack", **options})
    return Sample("".join(path.suffixes), {"": path.read_bytes()})


def v3draw(folder: Path) -> Iterator[Sample]:
    for dtype in ("u1", "<u2", "<f4"):
        array = image(dtype, (2, *SHAPE))
        yield Sample(".v3draw", {"": _vaa3d(b"raw_image_stack_by_hpeng", array.itemsize) + array.tobytes()})


def v3dpbd(folder: Path) -> Iterator[Sample]:
    """Its operations are drawn at random, until the voxels are full: literals, repetitions, differences."""
    random = np.random.default_rng(0)
    for itemsize, most, repeats, differences, bits in ((1, 33, 127, 32, 2), (2, 32, 222, 31, 3)):
        left, stream = 2 * int(np.prod(SHAPE)), bytearray()
        while left:
            kind, count = random.integers(3), min(left, int(random.integers(1, most)))
            if kind == 0:
                stream += bytes([count - 1]) + random.bytes(count * itemsize)
            elif kind == 1:
                stream += bytes([repeats + count]) + random.bytes(itemsize)
            else:
                stream += bytes([differences + count]) + random.bytes((count * bits + 7) // 8)
            left -= count
        yield Sample(".v3dpbd", {"": _vaa3d(b"v3d_volume_pkbitdf_encod", itemsize) + bytes(stream)})


def _vaa3d(key: bytes, itemsize: int) -> bytes:
    return key + b"L" + struct.pack("<h4i", itemsize, *SHAPE[::-1], 2)


def nrrd(folder: Path) -> Iterator[Sample]:
    data = image("<u2").tobytes()
    sizes = " ".join(map(str, SHAPE[::-1]))
    for encoding, stored, more in (
        ("raw", data, ["byte skip: -1"]),
        ("raw", data, ['units: "um" "um" "um"', "spacings: 0.25 0.25 1.0"]),
        ("gzip", gzip.compress(data, mtime=0), ["kinds: domain domain domain"]),
        (
            "bzip2",
            bz2.compress(data),
            ["space dimension: 3", "space directions: (0.2,0,0) (0,0.2,0) (0,0,1)", 'space units: "um" "um" "um"'],
        ),
    ):
        lines = ["NRRD0005", "type: uint16", "dimension: 3", f"sizes: {sizes}", "endian: little"]
        text = "\n".join([*lines, f"encoding: {encoding}", *more, "", ""])
        yield Sample(".nrrd", {"": text.encode() + stored})


def nifti(folder: Path) -> Iterator[Sample]:
    import nibabel

    for name, kind, dtype in (
        ("a.nii", nibabel.Nifti1Image, "u1"),
        ("a.nii", nibabel.Nifti2Image, "<i2"),
        ("a.nii.gz", nibabel.Nifti1Image, "<f4"),
    ):
        one = kind(image(dtype).T, np.diag([0.2, 0.2, 1.0, 1.0]))
        one.header.set_xyzt_units("micron")
        one.to_filename(folder / name)
        packed = name.endswith(".gz")
        yield Sample(name[1:], {"": (folder / name).read_bytes()}, packed)


def npy(folder: Path) -> Iterator[Sample]:
    for dtype, shape in (("u1", SHAPE), (">u2", SHAPE), ("<f4", (2, *SHAPE))):
        np.save(folder / "a.npy", image(dtype, shape))
        yield Sample(".npy", {"": (folder / "a.npy").read_bytes()})


def imaris(folder: Path) -> Iterator[Sample]:
    import h5py

    for chunks in (None, (2, 4, 8)):
        with h5py.File(folder / "a.ims", "w") as file:
            group = file.create_group("DataSet/ResolutionLevel 0/TimePoint 0/Channel 0")
            packed = {} if chunks is None else {"chunks": chunks, "compression": "gzip"}
            group.create_dataset("Data", data=image("u2"), **packed)
            info = file.create_group("DataSetInfo/Image").attrs
            texts = {f"Ext{end}{axis}": value for axis in range(3) for end, value in (("Min", "-1.5"), ("Max", "12"))}
            for name, text in {**texts, "Unit": "um"}.items():
                info[name] = np.frombuffer(text.encode(), "S1")
            for axis, size in zip("ZYX", (3, 8, 9), strict=True):
                group.attrs[f"ImageSize{axis}"] = np.frombuffer(str(size).encode(), "S1")
        yield Sample(".ims", {"": (folder / "a.ims").read_bytes()})


def ome_zarr(folder: Path) -> Iterator[Sample]:
    import zarr

    names = "zyx"
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in names]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.25, 0.25]}]}
    blosc = {"compressors": zarr.codecs.BloscCodec()}
    for version, options in ((2, {}), (3, {}), (3, blosc), (3, {"shards": (4, 10, 10), **blosc})):
        path = folder / "a.ome.zarr"
        multiscales = [{"axes": axes, "datasets": [dataset], "version": "0.4"}]
        attributes = {"multiscales": multiscales}
        group = zarr.open_group(path, mode="w", zarr_format=version)
        group.attrs.update(attributes if version == 2 else {"ome": {"version": "0.5", **attributes}})
        array = group.create_array("0", shape=SHAPE, chunks=(2, 5, 10), dtype="u2", **options)
        array[:] = image("u2")
        files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
        yield Sample(".ome.zarr", {name: file.read_bytes() for name, file in files.items()})


def swc(folder: Path) -> Iterator[Sample]:
    yield Sample(".swc", {"": _swc_text("# a tree").encode()})
    yield Sample(".swc", {"": _swc_text("# units: um\n# voxel size: 0.5 x 0.5 x 1.0 um").encode()})


def _swc_text(head: str) -> str:
    random = np.random.default_rng(0)
    rows = [f"{i + 1} {3 if i else 1} {x:.3f} {y:.3f} {z:.3f} 1.5 {max(1, i - i % 3) if i else -1}"
            for i, (x, y, z) in enumerate(np.cumsum(random.normal(size=(40, 3)), axis=0))]  # fmt: skip
    return "\n".join([head, *rows, ""])


def traces(folder: Path) -> Iterator[Sample]:
    from neuron_vit3d import Tree, write_tree

    path = write_tree(folder / "a.traces", Tree.from_text(_swc_text("#")), voxel_size=(1.0, 0.2, 0.2))
    yield Sample(".traces", {"": gzip.decompress(path.read_bytes())})
    yield Sample(".traces", {"": path.read_bytes()}, packed=True)


def asc(folder: Path) -> Iterator[Sample]:
    soma = (
        '("CellBody"\n (Color Red)\n (CellBody)\n (1 1 0 0.01)\n (-1 1 0 0.01)\n (-1 -1 0 0.01)\n (1 -1 0 0.01)\n)\n'
    )
    branch = "(\n  (-5 5 0 3)\n  (-6 7 1 2)\n |\n  (6 5 0 3)\n  (7 6 2 2)\n )\n"
    yield Sample(
        ".asc", {"": f"{soma}((Dendrite)\n (0 0 0 2)\n (0 5 0 2)\n {branch})\n((Axon)\n (0 -4 0 2)\n)\n".encode()}
    )


# What a byte can become: raw formats twice itself (the voxels and a working copy); v3dpbd 64 voxels; deflate 1032
# bytes (zlib's technical notes), LZW 1400; Zstandard, of OME-Zarr's chunks, 33 000 (128 KiB from 4 bytes). bzip2,
# whose bytes can become a million, is counted before it is kept. A tree's node, 12 bytes of text, is some objects of
# Python.
KINDS = {
    "TIFF": Kind(tiff, 2 * 1400),
    "OME-TIFF": Kind(ome_tiff, 2 * 1032),
    "v3draw": Kind(v3draw, 4),
    "v3dpbd": Kind(v3dpbd, 2 * 64),
    "NRRD": Kind(nrrd, 2 * 1032),
    "NIfTI": Kind(nifti, 2 * 1032),
    "npy": Kind(npy, 4),
    "OME-Zarr": Kind(ome_zarr, 2 * 33_000),
    "SWC": Kind(swc, 300, is_tree=True),
    ".traces": Kind(traces, 300, is_tree=True),
    ".asc": Kind(asc, 300, is_tree=True),
    "Imaris": Kind(imaris, 2 * 1032),
}


# -- damage -----------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_NUMBERS = b"0 1 2 -1 3.5 0,5 1e9 1e999 nan inf -inf 255 65536 2147483647 4294967296 99999999999999999999".split()
_BINARY = (0, 1, 2, 3, 7, 255, 256, 40000, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
# fmt: off
_WORDS = [
    b'"', b"'", b"{", b"}", b"[", b"]", b"(", b")", b"<", b">", b"&", b"|", b";", b"#", b" ", b"\0", b"\n", b"\n\n",
    b"\r\n", b"\x1a", b"\xff", b"\xc2\xb5m", b"null", b"true", b"../", b"<!ENTITY a 'b'>", b"&a;",
]
# fmt: on
_HEADER = 512  # bytes; half of the damage is done here, where sizes stand


def damaged(sample: Sample, random: np.random.Generator) -> dict[str, bytes]:
    """The files of a sample, one or two of them damaged in one or two ways."""
    files = dict(sample.files)
    for _ in range(random.integers(1, 3) if len(files) > 1 else 1):
        name = str(random.choice(list(files)))
        inside = sample.packed and random.random() < 0.5
        content = gzip.decompress(files[name]) if inside else files[name]
        for _ in range(random.integers(1, 3)):
            content = _once(content, random, name)
        files[name] = gzip.compress(content, 1, mtime=0) if inside else content
    if len(files) > 1 and random.random() < 0.05:
        del files[str(random.choice(list(files)))]
    return files


def _once(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """One of the ways to damage a file."""
    if not content:
        return random.bytes(4)
    whole = len(content) if random.random() < 0.5 else min(len(content), _HEADER)
    at = int(random.integers(whole))
    length = int(2 ** random.uniform(0, 7))
    way = random.integers(9)
    if way == 0:
        return content[:at]
    if way == 1:
        return content[:at] + bytes([content[at] ^ 1 << random.integers(8)]) + content[at + 1 :]
    if way == 2:
        return content[:at] + random.bytes(1) + content[at + 1 :]
    if way == 3:
        return content[:at] + random.bytes(length) + content[at:]
    if way == 4:
        return content[:at] + content[at + length :]
    if way == 5:  # a range once more
        return content[: at + length] + content[at:]
    if way == 6:
        word = _WORDS[random.integers(len(_WORDS))]
        return content[:at] + word + content[at + len(word) * int(random.integers(2)) :]
    if way == 7:
        code = str(random.choice(["<H", ">H", "<I", ">I", "<Q", ">Q"]))
        number = struct.pack(code, _BINARY[random.integers(len(_BINARY))] % 2 ** (8 * struct.calcsize(code)))
        return content[:at] + number + content[at + len(number) :]
    return _another_number(content, whole, random, keep_length=_is_binary(content))


def _another_number(content: bytes, whole: int, random: np.random.Generator, *, keep_length: bool) -> bytes:
    """The file with another number in its text; of a binary file, where offsets count, as long as the old one."""
    found = list(_NUMBER.finditer(content[:whole]))
    if not found:
        return content
    one = found[random.integers(len(found))]
    number = _NUMBERS[random.integers(len(_NUMBERS))]
    if keep_length:
        number = number[: len(one[0])].rjust(len(one[0]), b" ")
    return content[: one.start()] + number + content[one.end() :]


def _is_binary(content: bytes) -> bool:
    return b"\0" in content
