"""Teaching from stacks to a verdict: the same whether it was killed in between or not, and bad data refused first."""

import json
import re

import pytest
import torch

import neuron_vit3d
from neuron_vit3d import (
    NeuronViT3DForSegmentation,
    NeuronViT3DImageProcessor,
    Segmenter,
    read_swc,
    read_volume,
    write_volume,
)
from neuron_vit3d.data.pairs import DataError
from neuron_vit3d.training.config import TrainingError
from support.program import fail, save_checkpoint
from support.tiny_runs import forget_accelerate, same, save_base, save_data, stop_at, weights


SMALL = {
    "max_steps": 4,
    "batch_size": 2,
    "tile_size": 32,
    "num_workers": 0,
    "checkpoint_steps": 2,
    "synthetic_share": 0.0,
    "cpu": True,
    "mixed_precision": "no",
}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    forget_accelerate()


@pytest.fixture
def data(tmp_path) -> str:
    return save_data(tmp_path / "data")


@pytest.fixture
def base(tmp_path) -> str:
    return str(save_checkpoint(tmp_path / "base"))


def state_of(folder) -> dict:
    state = json.loads((folder / "teaching.json").read_text())
    del state["minutes"]
    return state


@pytest.mark.slow
def test_a_teaching_that_was_interrupted_ends_as_another(data, base, tmp_path, monkeypatch, one_thread, capsys):
    whole = neuron_vit3d.teach(data, tmp_path / "whole", base_model=base, **SMALL)
    assert sorted(state_of(whole.folder)["figures"]) == ["0.5", "0.5_sure", "1", "1_sure", "before"]
    said = capsys.readouterr().err
    assert "teaching 2 stacks: 3 trainings of 4 steps, about 1 minute" in said
    assert "training 1 of 3, without neuron_000" in said
    for block in (6, 4):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_at(patch, block)
            neuron_vit3d.teach(data, tmp_path / "parts", base_model=base, **SMALL)
    parts = neuron_vit3d.teach(data, tmp_path / "parts", base_model=base, **SMALL)
    assert state_of(parts.folder) == state_of(whole.folder) and parts.verdict == whole.verdict
    assert same(weights(parts.folder), weights(whole.folder))
    assert sorted(path.name for path in parts.folder.iterdir() if path.is_dir()) == ["pictures"]
    Segmenter(parts.folder)  # a whole checkpoint
    changed = (parts.folder / "teaching.json").stat().st_mtime_ns
    assert neuron_vit3d.teach(data, tmp_path / "parts", base_model=base, **SMALL) == parts
    assert (parts.folder / "teaching.json").stat().st_mtime_ns == changed, "what is finished is not done again"
    state = json.loads((parts.folder / "teaching.json").read_text())
    (parts.folder / "teaching.json").write_text(json.dumps(state | {"finished": False}))  # killed before its page
    parts.report.unlink()
    assert neuron_vit3d.teach(data, tmp_path / "parts", base_model=base, **SMALL) == parts and parts.report.exists()
    page = parts.report.read_text()
    assert page.count('<img src="data:image/png;base64,') == 4 and "neuron_0001" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


@pytest.mark.slow
def test_what_is_not_better_leaves_the_model_of_before(data, base, tmp_path, one_thread):
    frozen = SMALL | {"learning_rate": 0.0, "encoder_learning_rate": 0.0}
    taught = neuron_vit3d.teach(data, tmp_path / "out", base_model=base, **frozen)
    assert not taught.verdict.is_better
    assert same(weights(taught.folder), weights(base))


@pytest.mark.slow
def test_a_lone_stack_is_judged_by_its_halves_and_a_2d_model_can_be_taught(data, tmp_path, one_thread):
    (tmp_path / "data" / "neuron_0001.swc").unlink()
    options = SMALL | {"num_slices": 3, "decoder_hidden_size": 8, "stem_sizes": [4, 4, 8]}
    taught = neuron_vit3d.teach(data, tmp_path / "out", base_model=save_base(tmp_path / "2d"), **options)
    assert taught.verdict.unseen == 2 and "halves" in taught.verdict.text
    assert sorted(state_of(taught.folder)["figures"]) == ["1", "1_sure", "before"]


def test_bad_data_is_refused_before_anything_is_written(data, base, tmp_path, one_thread):
    folder, out = tmp_path / "data", tmp_path / "out"
    tree = read_swc(folder / "neuron_0001.swc")
    tree.xyz[:] += 1000
    tree.write(folder / "neuron_0001.swc")
    with pytest.raises(DataError, match=r"neuron_0001\.swc: marks no voxel"):
        neuron_vit3d.teach(data, out, base_model=base, **SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected images with SWC files beside them, found no pair"):
        neuron_vit3d.teach(tmp_path / "empty", out, base_model=base)
    with pytest.raises(TrainingError, match="train_data: cannot be used together with data"):
        neuron_vit3d.teach(data, out, train_data=["x"])
    with pytest.raises(TrainingError, match="two stacks are named neuron_0000"):
        neuron_vit3d.teach([data, save_data(tmp_path / "again")], out, base_model=base)
    with pytest.raises(TrainingError, match="found no pair named 'x'"):
        neuron_vit3d.teach(data, out, base_model=base, names=["x"])
    assert not out.exists()
    base_2d = save_checkpoint(tmp_path / "mine")
    with pytest.raises(TrainingError, match="holds a model of another run"):
        neuron_vit3d.teach(save_data(tmp_path / "good"), base_2d, base_model=base)


@pytest.mark.slow
def test_another_teaching_in_the_folder_is_refused(data, base, tmp_path, monkeypatch, one_thread):
    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 4)
        neuron_vit3d.teach(data, out, base_model=base, **SMALL)
    with pytest.raises(TrainingError, match=r"holds another teaching .max_steps was 4 and is 5 now"):
        neuron_vit3d.teach(data, out, base_model=base, **SMALL | {"max_steps": 5})
    volume = read_volume(tmp_path / "data" / "neuron_0000.tif")
    write_volume(tmp_path / "data" / "neuron_0000.tif", volume)
    with pytest.raises(TrainingError, match=r"other data .neuron_0000 is new, gone or changed"):
        neuron_vit3d.teach(data, out, base_model=base, **SMALL)
    (out / "teaching.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"teaching\.json: expected what a teaching wrote"):
        neuron_vit3d.teach(data, out, base_model=base, **SMALL)


def test_the_program_teaches_in_one_line_of_errors(tmp_path):
    assert fail("train", "--data", tmp_path / "none", "-o", tmp_path / "out").endswith("found no folder")
    assert "--push-to-hub" in fail("train", "--data", tmp_path, "-o", tmp_path / "out", "--push-to-hub", "a/b")


@pytest.mark.slow
def test_a_sure_model_can_be_taught_again(data, base, tmp_path, one_thread):
    """What it kept of low scores is a candidate's own matter, and not left over from the base model."""
    model = NeuronViT3DForSegmentation.from_pretrained(base)
    model.config.lowest_score = 0.4
    model.save_pretrained(tmp_path / "sure")
    NeuronViT3DImageProcessor.from_pretrained(base).save_pretrained(tmp_path / "sure")
    plain = state_of(neuron_vit3d.teach(data, tmp_path / "plain", base_model=base, **SMALL).folder)["figures"]
    forget_accelerate()
    sure = neuron_vit3d.teach(data, tmp_path / "again", base_model=str(tmp_path / "sure"), **SMALL)
    found = state_of(sure.folder)["figures"]
    assert {name: found[name] for name in ("0.5", "1")} == {name: plain[name] for name in ("0.5", "1")}
