"""Collections as folders and as archives: the same files, and nothing that an archive should not be trusted with."""

import os
import struct
import zipfile

import pytest

from neuron_vit3d.data.sources import DataError, open_source


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
