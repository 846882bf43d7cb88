"""The benchmark of damaged files: that it sees a crash, a hang, another exception; and a taste of its damage."""

import os
import signal
import sys
import time
import warnings

import numpy as np
import pytest

from neuron_vit3d import Volume
from neuron_vit3d.volumes import VolumeError
from support.places import REPOSITORY


if not sys.platform.startswith("linux"):
    pytest.skip("fuzz.py counts memory as Linux tells it", allow_module_level=True)
for library in ("nrrd", "nibabel", "zarr", "morphio"):
    pytest.importorskip(library)

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import fuzz  # noqa: E402  # where it cannot be imported, this file is skipped
from fuzz_files import KINDS, damaged  # noqa: E402


SOUND = Volume(np.ones((2, 3, 4), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_or_read(name):
    if name == "Imaris":
        pytest.importorskip("h5py")
    results = fuzz.fuzz(name, 60, seed=100)
    assert [one.number for one in results] == list(range(60))
    assert [one for one in results if one.outcome == "finding"] == []
    assert {one.outcome for one in results} <= {"read", "refused"}


def test_damage_is_the_same_for_a_seed_and_leaves_the_sample_alone(tmp_path):
    (sample,) = list(KINDS["v3dpbd"].samples(tmp_path))[:1]
    before = dict(sample.files)
    files = [damaged(sample, np.random.default_rng(seed)) for seed in (1, 1, *range(2, 30))]
    assert sample.files == before
    assert files[0] == files[1]
    assert sum(one != before for one in files) > 25


def crash(path, real):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(path, real):
    time.sleep(60)


def take(path, real):
    np.ones(1 << 26, np.uint8)
    return real(path)


def take_addresses(path, real):
    return np.empty(1 << 40, np.uint8)


def warn(path, real):
    warnings.warn("two\nlines", stacklevel=1)
    return real(path)


def refuse_in_two_lines(path, real):
    raise VolumeError(f"{path}: two\nlines")


@pytest.mark.parametrize(
    ("reader", "what"),
    [
        (crash, "crashes with signal 9"),
        (hang, "hangs: more than 0.5 s"),
        (take, "bytes of memory for"),
        (take_addresses, "MemoryError"),
        (warn, "warns UserWarning: two"),
        (refuse_in_two_lines, "in other words than one line"),
        (lambda path, real: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda path, real: SOUND, "slices that are not those of the volume"),
    ],
)
def test_what_is_a_finding(monkeypatch, reader, what):
    """A reader that goes wrong with the second of three damaged files; sound files are read as ever."""
    real, seen = fuzz.read_volume, []

    def read(path):
        seen.append(path.name.startswith("damaged"))
        if not seen[-1] or sum(seen) == 1:
            return real(path)
        return reader(path, real)

    # The files are sound, too, for their slices to be read; after a crash another process begins, and counts anew.
    monkeypatch.setattr(fuzz, "damaged", lambda sample, random: sample.files)
    monkeypatch.setattr(fuzz, "read_volume", read)
    monkeypatch.setattr(fuzz, "SECONDS", 0.5)
    results = fuzz.fuzz("v3draw", 2, seed=0)
    assert [one.outcome for one in results] == ["read", "finding"]
    assert what in results[1].what
    text = fuzz.report({"v3draw": results}, 0)
    assert "| v3draw | 2 | 0 | 1 | 1 |" in text and "- v3draw 1: " in text
