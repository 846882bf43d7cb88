"""What lies on disk under a name, by its bytes and times."""

import os

import pytest

from neuron_vit3d.volumes import VolumeError
from neuron_vit3d.volumes.on_disk import on_disk, printable


@pytest.fixture
def folder(tmp_path):
    """Two files of 7 bytes, all of an old time."""
    path = tmp_path / "v.zarr"
    (path / "0").mkdir(parents=True)
    (path / "0" / "c").write_bytes(b"12345")
    (path / ".zattrs").write_bytes(b"{}")
    for inside in [*path.rglob("*"), path]:
        os.utime(inside, ns=(10**9, 10**9))
    return path


def test_files_and_folders(folder):
    assert on_disk(folder) == (2, 7, 10**9) and on_disk(folder / "0" / "c") == (1, 5, 10**9)
    os.utime(folder / "0" / "c", ns=(10**9 + 1, 10**9 + 1))
    assert on_disk(folder).changed == on_disk(folder / "0" / "c").changed == 10**9 + 1


def test_a_file_under_another_name_is_a_change_of_its_folder(folder):
    (folder / "0" / "c").rename(folder / "0" / "d")
    found = on_disk(folder)
    assert (found.files, found.size) == (2, 7) and found.changed > 10**9


def test_links_are_followed_each_folder_once(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d").write_bytes(b"678")
    (folder / "circle").symlink_to(folder)
    (folder / "1").symlink_to(tmp_path / "elsewhere")
    assert on_disk(folder)[:2] == (3, 10)
    (folder / "0" / "gone").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="gone"):
        on_disk(folder)


def test_pipes_are_refused(folder):
    os.mkfifo(folder / "0" / "p\n")
    with pytest.raises(VolumeError, match=r"v\.zarr: holds p\\n, which is no regular file"):
        on_disk(folder)
    with pytest.raises(VolumeError, match="is no regular file"):
        on_disk(folder / "0" / "p\n")


def test_names_for_messages():
    assert printable("a\tb\udcff \u00e9") == "a\\tb\\udcff \u00e9"
