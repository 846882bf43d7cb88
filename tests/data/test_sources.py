"""Collections as folders and as archives: the same files, and nothing that an archive should not be trusted with."""

import errno
import io
import os
import pickle
import shutil
import socket
import struct
import zipfile
from pathlib import Path

import pytest

from neuron_vit3d.data.sources import DataError, ScratchError, open_source


FILES = {"a/x.tif": b"image" * 1000, "a/x.swc": b"1 2 3", "b/y.v3dpbd": bytes(range(256)) * 40}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def archive(path, files=FILES, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def test_folder_and_archive_hold_the_same(folder, tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with open_source(folder) as one, open_source(archive(tmp_path / "r.zip", method=method)) as other:
            assert one.files == other.files == {name: len(content) for name, content in sorted(FILES.items())}
            for source in (one, other):
                for name, content in FILES.items():
                    with source.local(name) as path:
                        assert path.name == name.split("/")[-1] and path.read_bytes() == content
                assert source.read_text("a/x.swc") == "1 2 3" and source.refused == {}


def test_what_is_copied_out_of_an_archive_does_not_stay(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with open_source(archive(tmp_path / "r.zip"), scratch) as source:
        with source.local("a/x.tif") as path:
            assert scratch in path.parents
        assert list(scratch.iterdir()) == []


def test_stamps_change_with_the_file(folder, tmp_path):
    with open_source(folder) as source:
        before = source.stamp("a/x.swc")
    os.utime(folder / "a/x.swc", ns=(1, 1))
    with open_source(folder) as source:
        assert source.stamp("a/x.swc") != before
    with (
        open_source(archive(tmp_path / "a.zip")) as one,
        open_source(archive(tmp_path / "b.zip", FILES | {"a/x.swc": b"1 2 4"})) as two,
    ):
        assert one.stamp("a/x.swc") != two.stamp("a/x.swc") and one.stamp("a/x.tif") == two.stamp("a/x.tif")


def test_hidden_files_links_and_volumes_that_are_folders(folder):
    (folder / ".hidden").write_text("x")
    (folder / "a" / "._x.tif").write_text("x")
    (folder / "again").symlink_to(folder)  # a circle
    (folder / "gone.tif").symlink_to(folder / "nowhere")
    (folder / "v.zarr" / "0").mkdir(parents=True)
    (folder / "v.zarr" / "0" / "c").write_bytes(b"12345")
    with open_source(folder) as source:
        assert source.files == {**{name: len(content) for name, content in FILES.items()}, "v.zarr": 5}
        assert "cannot be read" in source.refused["gone.tif"]


def lie(path, name: str, field: int, value: int) -> None:
    """Overwrites a 4-byte field of an entry in the archive's directory (offsets as in APPNOTE 4.3.12)."""
    raw = bytearray(path.read_bytes())
    at = raw.rfind(name.encode()) - 46
    assert raw[at : at + 4] == b"PK\x01\x02"
    raw[at + field : at + field + 4] = struct.pack("<I", value)
    path.write_bytes(raw)


def test_an_archive_that_lies_about_sizes(tmp_path):
    path = archive(tmp_path / "r.zip")
    lie(path, "a/x.tif", 24, 0xFFFFFFF0)  # terabytes out of a few bytes
    with open_source(path) as source:
        assert "packed bytes cannot hold" in source.refused["a/x.tif"] and "a/x.tif" not in source.files
    for size in (len(FILES["a/x.tif"]) + 1000, 100):  # a lie that could be true
        path = archive(tmp_path / "r.zip")
        lie(path, "a/x.tif", 24, size)
        with (
            open_source(path, tmp_path) as source,
            pytest.raises(DataError, match=r"r\.zip: a/x\.tif: "),
            source.local("a/x.tif"),
        ):
            pass
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["../out.tif", "a/../../out.tif", "/out.tif", "C:/out.tif", "a\\..\\out.tif"])
def test_an_archive_with_paths_that_lead_out(tmp_path, name):
    path = archive(tmp_path / "r.zip", {"a.tif": b"1", "b/b.tif": b"2"} | {name: b"3"})
    with open_source(path) as source:
        assert set(source.files) == {"a.tif", "b/b.tif"} and set(source.refused.values()) == {
            "its name leads out of the archive"
        }


def test_links_encryption_and_doubles_in_an_archive(tmp_path):
    path = archive(tmp_path / "r.zip", {"a.tif": b"1"})
    with zipfile.ZipFile(path, "a") as packed, pytest.warns(UserWarning, match="Duplicate"):
        link = zipfile.ZipInfo("link.tif")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
        packed.writestr("locked.tif", b"1")
        packed.writestr("a.tif", b"2")
    raw = bytearray(path.read_bytes())
    at = raw.rfind(b"locked.tif") - 46
    raw[at + 8] |= 1
    path.write_bytes(raw)
    with open_source(path) as source:
        assert source.refused == {
            "link.tif": "is a link",
            "locked.tif": "is encrypted",
            "a.tif": "is in the archive twice",
        }
        assert source.files == {}  # neither the first nor the last


def test_damaged_archives(tmp_path):
    with pytest.raises(DataError, match="nothing there"):
        open_source(tmp_path / "none.zip")
    whole = archive(tmp_path / "r.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cut off"):
        open_source(tmp_path / "cut.zip")
    flipped = bytearray(whole)
    flipped[60] ^= 0xFF  # in the first entry's packed bytes
    (tmp_path / "flipped.zip").write_bytes(flipped)
    with (
        open_source(tmp_path / "flipped.zip") as source,
        pytest.raises(DataError, match="cannot be unpacked"),
        source.local("a/x.tif"),
    ):
        pass


def test_an_ome_zarr_changes_with_any_file_in_it(folder):
    chunk, other = folder / "v.zarr" / "0" / "c", folder / "v.zarr" / ".zattrs"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"12345")
    other.write_bytes(b"{}")
    old = [folder / "v.zarr", chunk.parent, chunk, other]
    for path in old:
        os.utime(path, ns=(10**9, 10**9))
    with open_source(folder) as source, open_source(folder, scan=False) as unscanned:
        before = source.stamp("v.zarr")
        assert before == unscanned.stamp("v.zarr") == "7 bytes, changed 1000000000"
        chunk.write_bytes(b"54321")
        os.utime(chunk, ns=(10**9 + 1, 10**9 + 1))
        changed = source.stamp("v.zarr")
        assert changed == unscanned.stamp("v.zarr") == "7 bytes, changed 1000000001"
        chunk.rename(chunk.with_name("d"))  # keeps its time and bytes
        assert source.stamp("v.zarr") != changed


def test_names_that_are_not_utf8(folder):
    strange = os.fsencode(folder) + b"/a/p\xff.tif"
    try:
        Path(os.fsdecode(strange)).write_bytes(b"1")
        Path(os.fsdecode(os.fsencode(folder) + b"/\xfe")).mkdir()
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xfe/q.tif")).write_bytes(b"1")
    with open_source(folder) as source:
        assert source.refused == dict.fromkeys(["a/p\\udcff.tif", "\\udcfe"], "its name is not UTF-8")
        assert set(source.files) == set(FILES)


def test_pipes_and_sockets_are_not_read(folder):
    os.mkfifo(folder / "p.tif")
    (folder / "q.tif").symlink_to("p.tif")
    (folder / "v.zarr").mkdir()
    os.mkfifo(folder / "v.zarr" / "0")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        try:
            os.chdir(folder)  # the path of a socket must be short
            listening.bind("s.tif")
        finally:
            os.chdir(here)
        with open_source(folder) as source:
            assert set(source.files) == set(FILES)
            assert source.refused == {
                **dict.fromkeys(["p.tif", "q.tif", "s.tif"], "is no regular file"),
                "v.zarr": "holds 0, which is no regular file",
            }
    with pytest.raises(DataError, match="no regular file"):
        open_source(folder / "p.tif")


def test_folders_that_cannot_be_read(folder, monkeypatch):
    (folder / "v.zarr" / "0").mkdir(parents=True)
    scandir = os.scandir
    closed = {folder / "b", folder / "v.zarr" / "0"}

    def refusing(path):
        if Path(path) in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with open_source(folder) as source:
        assert set(source.files) == {"a/x.tif", "a/x.swc"}
        assert source.refused == {
            "b": "cannot be read: Permission denied",
            "v.zarr": f"cannot be read: Permission denied ({folder / 'v.zarr' / '0'})",
        }
    closed.add(folder)
    with pytest.raises(DataError, match="root: cannot be read: Permission denied"):
        open_source(folder)


def test_workers_do_not_look_through_the_folder_again(folder, tmp_path, monkeypatch):
    with open_source(folder) as source:
        expected = source.stamp("a/x.swc")
    with open_source(archive(tmp_path / "r.zip"), scan=False) as source:
        assert set(source.files) == set(FILES)
    monkeypatch.setattr(os, "walk", None)
    with open_source(folder, scan=False) as source:
        assert source.files == {} and source.refused == {}
        assert source.stamp("a/x.swc") == expected and source.read_text("a/x.swc") == "1 2 3"


def rename(path, name: bytes, other: bytes) -> Path:
    """Overwrites a name, in the entry's header and in the directory, by another of the same length."""
    assert len(name) == len(other)
    path.write_bytes(path.read_bytes().replace(name, other))
    return path


def test_a_nul_byte_does_not_shadow_the_entry_of_the_name_before_it(tmp_path):
    files = {"a.tif": b"good", "a.tif_x.tif": b"bad", "b/_.tif": b"bad"}
    path = rename(archive(tmp_path / "r.zip", files), b"a.tif_x.tif", b"a.tif\0x.tif")
    with open_source(rename(path, b"b/_.tif", b"b/\0.tif")) as source:
        assert source.refused == dict.fromkeys(["a.tif\\x00x.tif", "b/\\x00.tif"], "its name holds a NUL byte")
        assert set(source.files) == {"a.tif"} and source.read_text("a.tif") == "good"


def test_names_for_the_same_place_are_doubles_and_others_are_not(tmp_path):
    files = {"a/x.tif": b"1", "a//x.tif": b"2", "b.tif": b"3", "c/../b.tif": b"4", "d": b"5", "d/": b""}
    with open_source(archive(tmp_path / "r.zip", files)) as source:
        assert source.refused == {
            "a/x.tif": "is in the archive twice",
            "a//x.tif": "is in the archive twice",
            "c/../b.tif": "its name leads out of the archive",
        }
        assert set(source.files) == {"b.tif", "d"}


def test_what_is_packed_twice_over_is_to_be_unpacked(tmp_path):
    members = (".zattrs", ".zgroup", "zarr.json", "0/.zarray", "0/c/0/0", "labels.tif")
    files = {f"s/x.ome.zarr/{name}": b"1" for name in members} | {"s/x.swc": b"2", "more.ZIP": b"3", "y.zarr/": b""}
    hidden = {"__MACOSX/z.zarr/0": b"4", ".z.zarr/0": b"4", "._w.zip": b"4"}
    with open_source(archive(tmp_path / "r.zip", files | hidden)) as source:
        assert set(source.files) == {"s/x.swc"}
        assert source.refused == {
            "s/x.ome.zarr": "an OME-Zarr inside an archive is not read: unpack it",
            "y.zarr": "an OME-Zarr inside an archive is not read: unpack it",
            "more.ZIP": "an archive inside an archive is not read: unpack it",
        }


@pytest.mark.parametrize(
    ("name", "copied_as"),
    [
        ("a/" + "n" * 196 + ".tif", "n" * 196 + ".tif"),
        ("a/" + "n" * 197 + ".tif", "volume.tif"),
        ("a/" + "n" * 300 + ".ome.tif", "volume.ome.tif"),
        ("a/" + "n" * 300 + ".NII.GZ", "volume.NII.GZ"),
        ("a/" + "ü" * 150 + ".v3dpbd", "volume.v3dpbd"),
        ("n" * 300 + ".stamp_1.swc", "volume.swc"),
        ("n." + "n" * 300, "volume"),
        (".", "volume"),
    ],
)
def test_long_names_are_shortened_for_the_copy(tmp_path, name, copied_as):
    with open_source(archive(tmp_path / "r.zip", {name: b"1"})) as source, source.local(name) as path:
        assert path.name == copied_as and path.read_bytes() == b"1"


def test_an_entry_without_a_name(tmp_path):
    path = archive(tmp_path / "r.zip", {"x": b"1", "a.tif": b"2"})
    raw = bytearray(path.read_bytes())
    at = raw.find(b"PK\x01\x02")
    raw[at + 28 : at + 32] = struct.pack("<HH", 0, 4 + 1)  # no name, and an extra field in its place
    raw[at + 46 : at + 47] = b"\x99\x99\x01\x00\x00"
    end = raw.rfind(b"PK\x05\x06")
    raw[end + 12 : end + 16] = struct.pack("<I", end - at)
    path.write_bytes(raw)
    with open_source(path) as source:
        assert source.refused == {"(no name)": "has no name"} and set(source.files) == {"a.tif"}


def test_damaged_directories(tmp_path):
    whole = archive(tmp_path / "r.zip").read_bytes()
    directory, end = whole.find(b"PK\x01\x02"), whole.rfind(b"PK\x05\x06")
    path = tmp_path / "bad.zip"
    refused = 0
    for at in [*range(directory, directory + 46 + 7), *range(end, len(whole))]:
        for value in (0x00, 0x7F, 0xFF):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                source = open_source(path)
            except DataError as error:
                assert "bad.zip: expected a folder or a zip archive, found another file or a damaged" in str(error)
                refused += 1
                continue
            with source:
                for name in source.files:
                    try:
                        with source.local(name):
                            pass
                    except DataError as error:
                        assert "bad.zip: " in str(error)
    assert refused
    for error in (IndexError("index"), OSError(errno.EINVAL, "Invalid argument"), struct.error("x"), OverflowError()):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError, match="damaged"):
            patch.setattr(zipfile.ZipFile, "infolist", lambda _, error=error: (_ for _ in ()).throw(error))
            open_source(tmp_path / "r.zip")
    path = archive(tmp_path / "r.zip", {"a.tif": b"1"})
    lie(path, "a.tif", 42, 1 << 30)
    with open_source(path) as source:
        assert "outside the archive" in source.refused["a.tif"]


def test_damaged_bzip2_is_the_entrys_fault(tmp_path):
    path = archive(tmp_path / "r.zip", {"a.tif": os.urandom(100)}, zipfile.ZIP_BZIP2)
    raw = bytearray(path.read_bytes())
    at = raw.find(b"BZh")
    raw[at + 4 : at + 10] = b"\0" * 6  # OSError: Invalid data stream
    path.write_bytes(raw)
    with (
        open_source(path) as source,
        pytest.raises(DataError, match=r"r\.zip: a\.tif: cannot be unpacked: Invalid data stream"),
        source.local("a.tif"),
    ):
        pass


def test_a_scratch_that_is_no_folder(folder, tmp_path):
    with pytest.raises(DataError, match="nowhere: expected an existing folder as scratch, found nothing there"):
        open_source(folder, tmp_path / "nowhere")
    with pytest.raises(DataError, match="as scratch, found a file"):
        open_source(folder, archive(tmp_path / "r.zip"))


def test_trouble_with_the_scratch_is_not_the_entrys_fault(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    told = r"scratch: cannot hold a copy of .*r\.zip: a/x\.tif: .*{}.*; set scratch to a folder with room$"

    def fails(source, reason):
        with pytest.raises(ScratchError, match=told.format(reason)) as caught, source.local("a/x.tif"):
            pass
        assert not isinstance(caught.value, ValueError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # comes from worker processes

    class Full(io.BytesIO):
        def write(self, piece):
            raise OSError(errno.ENOSPC, "No space left on device")

    with open_source(archive(tmp_path / "r.zip"), scratch) as source:
        with monkeypatch.context() as patch:
            usage = shutil.disk_usage(scratch)._replace(free=4999)
            patch.setattr(shutil, "disk_usage", lambda _: usage)
            fails(source, "needs 5000 bytes, 4999 are free")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", lambda path, mode: Full())
            fails(source, "No space left on device")
        assert list(scratch.iterdir()) == []
        with pytest.raises(FileExistsError), source.local("a/x.tif"):  # what its user does wrong stays as it is
            raise FileExistsError
        scratch.rmdir()
        fails(source, "No such file or directory")
