"""Writes and reads a prepared dataset: one Arrow file for each neuron and configuration, built-in features only.

    volumes/train/neuron-<id>.arrow    config "volumes": one row, the whole image and its tree
    blocks/train/neuron-<id>.arrow     config "blocks": fixed-size pieces of it with their labels
    README.md                       tells `datasets.load_dataset(folder, config)` where the parts of the split lie

The voxels of an image are stored slice by slice, as raw bytes, one after the other. So `datasets` maps them into
memory, and a block is read without touching the rest. Without this package they are read by

    numpy.frombuffer(b"".join(row["image"]), row["dtype"]).reshape(row["shape"])
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ..files import replacing


if TYPE_CHECKING:
    from datasets import DatasetDict

CONFIGS = ("volumes", "blocks")
DEFAULT_CONFIG = "volumes"  # what is shown, and loaded where none is named
DATA_FILES = "neuron-*.arrow"
PARTS = ("train", "validation", "test")
_BLOCKS_AT_ONCE = 16  # a record batch of blocks: some 20 MB


def features(config: str):
    """Returns the `datasets.Features` of a configuration."""
    from datasets import Features, Image, List, Value

    text, number, sizes = Value("string"), Value("float64"), List(Value("int64"))
    if config == "volumes":
        return Features(
            {
                "neuron_id": text,
                "thumbnail": Image(),  # the projection along z with the tree, for who looks through the rows
                "image": List(Value("large_binary")),  # a slice each: height * width raw voxels, little endian
                "shape": sizes,  # z, y, x
                "dtype": text,  # numpy's name
                "voxel_size": List(number),  # z, y, x in micrometres, or None
                "swc": text,  # in voxels of the image
                "nodes": Value("int64"),  # of the tree, as all that follows to `tips`
                "length": number,  # in voxels
                "length_um": number,  # None without a voxel size
                "branches": Value("int64"),
                "branch_points": Value("int64"),
                "tips": Value("int64"),
                "extent_um": List(number),  # z, y, x of the volume, or None
                "signal_level": number,  # from here on a voxel is as bright as the traced neuron
                "edge_band": number,  # how the tree becomes labels, see `labels.LabelPolicy`
                "ignore_untraced": Value("bool"),
                "species": text,
                "lab": text,
                "microscopy": text,
                "licence": text,
                "source": text,  # the image's file
            }
        )
    return Features(
        {
            "neuron_id": text,
            "lab": text,
            "neuron_blocks": Value("int64"),  # rows of this neuron, for who wants neurons equally often
            "origin": sizes,  # z, y, x of the first voxel in the volume
            "shape": sizes,  # z, y, x, the same for all
            "dtype": text,
            "image": Value("large_binary"),  # raw voxels, C order, little endian
            "mask": Value("large_binary"),  # uint8: 0 background, 1 neuron, 255 ignored
            "black": number,  # intensities of the whole volume that become 0 and 1
            "white": number,
        }
    )


def file_name(neuron_id: str) -> str:
    """Makes the name of a neuron's files, without suffix; it is different for every neuron.

    It is allowed on every file system and on the Hub. Its beginning tells the files from the `cache-*.arrow` that
    `datasets` puts beside them when the dataset is mapped or sorted.
    """
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", neuron_id).strip("._")[-80:].strip("._")
    return f"neuron-{readable}-{hashlib.sha256(neuron_id.encode()).hexdigest()[:8]}"


def write_volume_row(path: Path, image: np.ndarray, row: dict) -> int:
    """Writes one row of "volumes"; the voxels go from the array to the file as they are. Returns the bytes written.

    Args:
        image: (z, y, x).
        row: the other columns, without image, shape and dtype; of those that are not there nothing is known.
    """
    schema = features("volumes").arrow_schema
    image = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
    depth, slice_bytes = len(image), image[0].nbytes
    offsets = pa.py_buffer(np.arange(depth + 1, dtype=np.int64) * slice_bytes)
    slices = pa.LargeBinaryArray.from_buffers(pa.large_binary(), depth, [None, offsets, pa.py_buffer(image.data)])
    columns = {name: pa.array([row.get(name)], schema.field(name).type) for name in schema.names if name != "image"}
    columns |= {
        "image": pa.ListArray.from_arrays(pa.array([0, depth], pa.int32()), slices),
        "shape": pa.array([list(image.shape)], schema.field("shape").type),
        "dtype": pa.array([image.dtype.name]),
    }
    return _write(path, schema, [pa.record_batch([columns[name] for name in schema.names], schema=schema)])


def write_block_rows(path: Path, rows: Iterable[dict]) -> int:
    """Writes rows of "blocks" a few at a time, as they come. Returns the bytes written."""
    schema = features("blocks").arrow_schema

    def batches() -> Iterator[pa.RecordBatch]:
        waiting = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == _BLOCKS_AT_ONCE:
                yield pa.RecordBatch.from_pylist(waiting, schema=schema)
                waiting = []
        if waiting:
            yield pa.RecordBatch.from_pylist(waiting, schema=schema)

    return _write(path, schema, batches())


def read_files(files: Mapping[str, Sequence[Path]], config: str) -> "DatasetDict":
    """Opens memory-mapped datasets of the parts that have files, in the order of `PARTS`."""
    from datasets import Dataset, DatasetDict, concatenate_datasets

    parts = {}
    for part in PARTS:
        tables = [Dataset.from_file(str(path)) for path in files.get(part, ())]
        if tables:
            parts[part] = concatenate_datasets(tables) if len(tables) > 1 else tables[0]
            parts[part].info.config_name = config
    return DatasetDict(parts)


def part_files(folder: Path, config: str) -> dict[str, list[Path]]:
    """{part: its Arrow files} of a configuration."""
    return {part: sorted((folder / config / part).glob(DATA_FILES)) for part in PARTS}


def write_readme(folder: Path) -> None:
    """Writes the README.md by which `datasets.load_dataset(folder, "volumes")` and `"blocks"` find their files."""
    lines = ["---", "configs:"]
    for config in CONFIGS:
        parts = [part for part, files in part_files(folder, config).items() if files]
        if parts:
            lines += [f"- config_name: {config}"]
            lines += ["  default: true"] if config == DEFAULT_CONFIG else []
            lines += ["  data_files:"]
            for part in parts:
                lines += [f"  - split: {part}", f"    path: {config}/{part}/{DATA_FILES}"]
    lines += ["---", "", "# Prepared by neuron_vit3d", ""]
    lines += [
        '`datasets.load_dataset(<this folder>, "volumes")` or `"blocks"`; `report.csv` tells what became of every '
        "pair."
    ]
    with replacing(folder / "README.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            return temporary.stat().st_size
    except OSError as error:
        raise OSError(
            error.errno, f"{path}: cannot be written: {os.strerror(error.errno) if error.errno else error}"
        ) from error
