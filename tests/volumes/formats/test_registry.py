"""The list of image formats is the only place that knows them: reading, writing, help texts and docs go by it."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from neuron_vit3d import Volume, read_volume, write_volume
from neuron_vit3d.cli import app
from neuron_vit3d.volumes import VolumeError, open_volume
from neuron_vit3d.volumes.formats import registry
from neuron_vit3d.volumes.formats.format import START_BYTES, Format
from support.pbd_files import PBD, encode_pbd, header
from support.places import REPOSITORY


FOLDER = Path(registry.__file__).parent
ARRAY = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)


def test_every_line_is_a_module_and_says_what_its_module_says():
    assert [(FOLDER / f"{name}.py").is_file() for name in registry.FORMATS] == [True] * len(registry.FORMATS)
    for (name, line), one in zip(registry.FORMATS.items(), registry.formats(), strict=True):
        assert isinstance(one, Format), name
        assert bool(line.written_as) == bool(one.write) and set(line.written_as.split()) <= set(one.writes), name
        assert one.suffixes or one.is_folder, name
        assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in one.suffixes), name
        assert set(one.headers) <= set(one.suffixes) and one.row and line.words, name
        if isinstance(one.signature, tuple):
            assert all(0 < len(signature) <= START_BYTES for signature in one.signature), name
    written = [suffix for one in registry.formats() for suffix in one.writes]
    assert len(written) == len(set(written))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_libraries_are_imported_when_they_are_needed(path):
    """Reading a .npy file waits for no library of another format."""
    imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    absolute = [node for node in imports if isinstance(node, ast.Import) or not node.level]
    names = {alias.name for node in absolute if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in absolute if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {"numpy"} | set(sys.stdlib_module_names)


def test_help_texts_name_the_formats():
    words = registry.in_words()
    assert words.startswith("TIFF, Vaa3D v3draw or v3dpbd, .npy, ") and " or " in words
    for command, text in (("segment", words), ("convert", registry.written_in_words())):
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "400", "TERMINAL_WIDTH": "400"})
        assert text in " ".join(shown.output.split()), command


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The example of CONTRIBUTING.md, as if its module and its line were there."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    text = text.partition("\n## Add an image format\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    name, line = re.search(r'"(\w+)": Line\(".*?"\)', text), re.search(r'Line\((".*?")\)', text)
    (tmp_path / "module.py").write_text(code)
    spec = importlib.util.spec_from_file_location(f"{registry.__package__}.{name[1]}", tmp_path / "module.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.setitem(registry.FORMATS, name[1], registry.Line(*ast.literal_eval(f"({line[1]},)")))
    registry.formats.cache_clear()
    yield module
    registry.formats.cache_clear()


def test_a_format_is_a_module_and_a_line(toy, tmp_path):
    path = write_volume(tmp_path / "a.toy", Volume(ARRAY[0]))
    path = path.rename(tmp_path / "a")
    assert np.array_equal(read_volume(path).array, ARRAY[0])
    with open_volume(path) as reader:
        assert reader.num_channels == 1 and np.array_equal(reader.read(1, 2), ARRAY[0, 1:2])
    assert "| toys | | `.toy` |" in registry.as_table() and registry.in_words().endswith(" or .toy")
    assert registry.written_in_words().endswith(", .toy")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VolumeError, match=r"header says z, y, x \(3, 4, 5\), but the file has 75 bytes"):
        read_volume(path)
    path.write_bytes(b"another")
    with pytest.raises(
        VolumeError, match=r"expected a TIFF, .*, or \.toy file, or .*, got a file that begins with b'ano"
    ):
        read_volume(path)


def write_npy(path, array):
    return write_volume(path.with_suffix(".npy"), Volume(array))


def write_tiff(path, array):
    return write_volume(path.with_suffix(".tif"), Volume(array))


def write_v3draw(path, array):
    return write_volume(path.with_suffix(".v3draw"), Volume(array))


def write_v3dpbd(path, array):
    path.write_bytes(header(PBD, (1,) * (4 - array.ndim) + array.shape, 1) + encode_pbd(array))
    return path


def write_zarr(path, array):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(path, data=array)
    return path


def write_nrrd(path, array):
    kinds = ["domain", "domain", "domain", "list"][: array.ndim]
    stored = np.ascontiguousarray(array.transpose())
    pytest.importorskip("nrrd").write(str(path.with_suffix(".nrrd")), stored, {"kinds": kinds})
    return path.with_suffix(".nrrd")


def write_nifti(path, array):
    array = array if array.ndim == 3 else array[:, None]  # there is an axis of time before that of channels
    image = pytest.importorskip("nibabel").Nifti1Image(array.transpose(), np.eye(4))
    image.to_filename(path.with_suffix(".nii.gz"))
    return path.with_suffix(".nii.gz")


@pytest.mark.parametrize(
    "write", [write_npy, write_tiff, write_v3draw, write_v3dpbd, write_zarr, write_nrrd, write_nifti]
)
def test_a_reader_tells_how_many_channels_there_are(write, tmp_path):
    several, one = write(tmp_path / "several", ARRAY), write(tmp_path / "one", ARRAY[0])
    with open_volume(several, 1) as reader:
        assert reader.num_channels == 2 and np.array_equal(reader.read(0, 3), ARRAY[1])
    with open_volume(one) as reader:
        assert reader.num_channels == 1 and np.array_equal(reader.read(0, 3), ARRAY[0])
    with pytest.raises(VolumeError, match=r"several.*: has 2 channels: choose one"):
        open_volume(several)
    with pytest.raises(VolumeError, match=r"several.*: expected a channel from 0 to 1, got 2"):
        open_volume(several, 2)


def test_a_reader_of_a_volume_tells_how_many_channels_it_has():
    with open_volume(Volume(ARRAY), 1) as reader:
        assert reader.num_channels == 2


def test_what_can_only_be_read_is_not_written(tmp_path):
    all_of_them = r"\.tif, \.tiff, \.btf, \.v3draw, \.raw or \.npy"
    for name, kind, advice in (
        ("a.V3DPBD", "v3dpbd", r"\.v3draw or \.raw"),  # which Vaa3D reads as well
        ("a.nii.gz", r"nii\.gz", all_of_them),
        ("a.czi", "czi", all_of_them),
    ):
        with pytest.raises(VolumeError, match=f"{name}: {kind} files can be read but not written; use {advice}$"):
            write_volume(tmp_path / name, Volume(ARRAY))
