"""neuron-vit3d prepare: images with trees become a dataset, from the package alone; scripts/prepare_bigneuron.py is
the same."""

import json
import runpy
import sys

import pytest

from neuron_vit3d.data.bigneuron import load_bigneuron
from support.places import REPOSITORY
from support.program import fail, succeed
from support.release import NAMES, write_release, write_sample


SCRIPT = REPOSITORY / "scripts" / "prepare_bigneuron.py"
HOW = ["--fractions", "1", "0", "0", "--block-shape", "5", "40", "40"]


def run_script(monkeypatch, capsys, *words) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["prepare_bigneuron.py", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code, *capsys.readouterr()


def test_the_program_and_the_script_prepare_alike(tmp_path, monkeypatch, capsys):
    release = write_release(tmp_path / "release", NAMES[:2])
    told = "2 used, 0 repaired, 0 left out: {}\ntrain 2, validation 0, test 0\n"
    assert succeed("prepare", release, tmp_path / "a", *HOW) == told.format(tmp_path / "a" / "report.csv")
    told_as_json = json.loads(succeed("prepare", release, tmp_path / "a", *HOW, "--json"))
    parts = {"train": 2, "validation": 0, "test": 0}
    assert told_as_json == {
        "used": 2, "repaired": 0, "left_out": 0, "report": str(tmp_path / "a" / "report.csv"), "neurons": parts,
    }  # fmt: skip
    code, out, err = run_script(monkeypatch, capsys, release, tmp_path / "b", *HOW)
    assert (code, out, err) == (0, told.format(tmp_path / "b" / "report.csv"), "")
    one, other = (load_bigneuron(tmp_path / name, "blocks")["train"] for name in "ab")
    assert one[:] == other[:] and len(one) > 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--shard", "2/2"], "--shard: expected i/n with i from 0 to n - 1, got '2/2'"),
        (["--radius", "wide"], "label policy: radius must be 'given' or 'image'"),
        (["--push-to-hub", "user/x"], "user/x: HF_HUB_OFFLINE=1 forbids to ask the Hub: unset it"),
    ],
)
def test_bad_input_is_one_line(words, complaint, tmp_path, monkeypatch, capsys):
    write_sample(tmp_path / "in", "a.v3draw", "a.swc")
    assert fail("prepare", tmp_path / "in", tmp_path / "out", *words).startswith(complaint)
    code, out, err = run_script(monkeypatch, capsys, tmp_path / "in", tmp_path / "out", *words)
    assert (code, out) == (2, "") and err.startswith(f"prepare_bigneuron.py: {complaint}") and err.count("\n") == 1


def test_a_misspelt_option_and_a_missing_folder(tmp_path):
    assert fail("prepare", "a", "b", "--fration", "1").startswith(
        "no such option: --fration; the nearest is --fractions"
    )
    assert str(tmp_path / "none") in fail("prepare", tmp_path / "none", tmp_path / "out")


def test_an_interruption_tells_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("neuron_vit3d.data.bigneuron.prepare", interrupted)
    code, _, err = run_script(monkeypatch, capsys, tmp_path, tmp_path / "out")
    assert (code, err) == (130, "prepare_bigneuron.py: interrupted; the same command continues\n")
