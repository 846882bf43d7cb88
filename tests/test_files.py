"""Files and folders appear whole or not at all, and what killed runs leave is taken over or removed."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuron_vit3d.files import (
    append_line,
    hidden,
    locked,
    new_folder,
    remove_folder,
    rename,
    replacing,
    replacing_files,
    sweep,
    write_whole,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("alone", [False, True])
def test_a_whole_text_or_what_was_there_before(alone, tmp_path, monkeypatch):
    path = tmp_path / "text"
    write_whole(path, "first\n", alone=alone)
    assert path.read_bytes() == b"first\n"

    def refuse(*_):
        raise OSError("full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="full"):
        write_whole(path, "second", alone=alone)
    assert path.read_text() == "first\n" and names(tmp_path) == ["text"]


def test_what_a_killed_run_left_is_written_over_or_swept(tmp_path):
    path = tmp_path / "a[1].txt"
    with replacing(path, alone=True) as left:
        pass_on = left.name
        left.write_text("killed")
        os.link(left, tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / pass_on)
    write_whole(path, "new", alone=True)
    assert names(tmp_path) == ["a[1].txt"] and path.read_text() == "new"
    with replacing(path) as left:
        left.write_text("newer")
        others = [tmp_path / left.name.replace(".tmp", "0.tmp"), tmp_path / left.name.replace("a[1]", "a1")]
        for other in others:
            other.write_text("killed")
    sweep(path)
    assert names(tmp_path) == sorted([others[1].name, "a[1].txt"]) and path.read_text() == "newer"


@pytest.mark.parametrize("links", [True, False])
def test_the_first_may_stay(links, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links on this disk")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for text in ("first", "second"):
        write_whole(tmp_path / "plan", text, durable=True, first_stays=True)
    assert (tmp_path / "plan").read_text() == "first" and names(tmp_path) == ["plan"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_a_written_file_may_be_read_by_whom_the_umask_allows(tmp_path):
    """In a process of its own, for the umask is the whole process's; asking for it would change it for a moment."""
    code = "import os, sys; os.umask(0o027); from neuron_vit3d.files import write_whole, Path\n"
    code += "write_whole(Path(sys.argv[1]), 'text'); print(oct(os.umask(0)))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0o27" and (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["a.zarr", ".a.zarr.unfinished"])
def test_a_folder_appears_complete_or_not_at_all(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(RuntimeError, match="stop"), new_folder(path) as folder:
        folder.mkdir()
        (folder / "half").write_text("first")
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())
    with new_folder(path) as folder:
        assert folder.name == name and folder.parent.name.startswith(".a.zarr.")
        folder.mkdir()
        (folder / "whole").write_text("first")
        assert not path.exists()
    with pytest.raises(OSError), new_folder(path) as folder:  # another came first
        folder.mkdir()
        (folder / "whole").write_text("second")
    assert list(tmp_path.iterdir()) == [path] and (path / "whole").read_text() == "first"


def test_a_folder_takes_the_place_of_an_empty_one_and_of_what_a_killed_run_left(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    (tmp_path / ".a.partial" / "a").mkdir(parents=True)
    (tmp_path / ".a.partial" / "a" / "old").touch()
    with new_folder(path, alone=True) as folder:
        folder.mkdir()
        (folder / "new").touch()
    assert names(tmp_path) == ["a"] and names(path) == ["new"]


def test_files_of_a_folder_are_replaced_together_or_not_at_all(tmp_path):
    (tmp_path / "weights").write_text("old")
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "left").touch()
    with pytest.raises(RuntimeError), replacing_files(tmp_path) as partial:
        partial.mkdir()
        (partial / "weights").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["weights"] and (tmp_path / "weights").read_text() == "old"
    with replacing_files(tmp_path) as partial:
        partial.mkdir()
        (partial / "weights").write_text("new")
    assert names(tmp_path) == ["weights"] and (tmp_path / "weights").read_text() == "new"


def test_a_folder_is_hidden_while_it_is_filled_or_removed(tmp_path, monkeypatch):
    folder = tmp_path / "step_1"
    hidden(folder).mkdir()
    rename(hidden(folder), folder)
    assert names(tmp_path) == ["step_1"]
    hidden(folder).mkdir()  # a killed run's
    remove_folder(folder)
    assert not names(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_file_is_kept_from_others(tmp_path):
    path = tmp_path / "a"
    with locked(path):
        with pytest.raises(BlockingIOError, match="another process has this file"):
            locked(path)
        path.write_text("ours")
    with locked(path):
        assert path.read_text() == "ours"


def _append(path, word):
    for number in range(40):
        append_line(path, f"{word * 3000}{number}")


def test_lines_of_several_writers_do_not_mix(tmp_path):
    path = tmp_path / "lines"
    writers = [multiprocessing.get_context("fork").Process(target=_append, args=(path, word)) for word in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{word * 3000}{number}" for word in "abcd" for number in range(40))


@pytest.mark.parametrize(("before", "kept"), [("", ""), ("one\n", "one\n"), ("one\ntw", "one\n"), ("on", "")])
def test_a_line_that_was_cut_off_gives_way(tmp_path, before, kept):
    path = tmp_path / "lines"
    path.write_text(before)
    append_line(path, "three")
    assert path.read_text() == f"{kept}three\n"


def test_a_line_is_one(tmp_path):
    with pytest.raises(ValueError, match="lines: expected one line, got 2"):
        append_line(tmp_path / "lines", "one\ntwo")
    assert not (tmp_path / "lines").exists()
