"""The model that a run starts from: inflated, from scratch, or a 3D checkpoint."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuron_vit3d import NeuronViT3DImageProcessor
from neuron_vit3d.inference import load_checkpoint
from neuron_vit3d.training.building import build_model
from neuron_vit3d.training.config import TrainingConfig, TrainingError
from neuron_vit3d.training.trainer import train
from support.tiny_runs import run_of_a_test, same, weights


@pytest.fixture
def config(tmp_path) -> Iterator[TrainingConfig]:
    with run_of_a_test(tmp_path) as options:
        yield options


@pytest.fixture
def base(config) -> Path:
    return Path(config.base_model)


def test_initialisations(config, base):
    from transformers import AutoModel

    kernel = AutoModel.from_pretrained(base).embeddings.patch_embeddings.projection.weight.detach().sum(1)
    models = {name: build_model(replace(config, initialisation=name))[0] for name in ("center", "average", "scratch")}
    patches = {name: model.encoder.patch_embedding_3d.detach()[:, 0] for name, model in models.items()}
    torch.testing.assert_close(patches["center"][:, 1], kernel)
    assert not patches["center"][:, [0, 2]].any()
    torch.testing.assert_close(patches["average"], (kernel / 3)[:, None].expand(-1, 3, -1, -1))
    assert (patches["scratch"].abs() > 0).all() and patches["scratch"].std() < 0.1
    shapes = [{key: tensor.shape for key, tensor in model.state_dict().items()} for model in models.values()]
    assert shapes[0] == shapes[1] == shapes[2]
    layer = "encoder.backbone.layers.0.mlp.fc1.weight"
    layers = {name: dict(model.named_parameters()).get(layer) for name, model in models.items()}
    assert all(tensor is not None for tensor in layers.values()), [*models["center"].state_dict()][:20]
    assert torch.equal(layers["center"], layers["average"])
    assert not torch.equal(layers["center"], layers["scratch"])


def test_pictures_statistics_of_the_2d_model_are_taken_over(config, base, tmp_path):
    shutil.copytree(base, tmp_path / "own")
    statistics = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / "own" / "preprocessor_config.json").write_text(json.dumps(statistics))
    processor = build_model(replace(config, base_model=str(tmp_path / "own")))[1]
    assert (processor.image_mean, processor.image_std) == (pytest.approx(0.5), pytest.approx(0.2))
    assert build_model(config)[1].image_mean == 0.5


def test_a_3d_checkpoint_is_continued_from(config, tmp_path):
    first = train(config)
    config = replace(config, base_model=str(first), output_dir=str(tmp_path / "second"))
    model, processor = build_model(config)
    assert same(model.state_dict(), weights(first))
    assert processor.to_dict() == NeuronViT3DImageProcessor.from_pretrained(first).to_dict()
    second = train(config)
    assert not same(weights(second), weights(first))
    (first / "model.safetensors").write_bytes((first / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(OSError, match=r"run: .* damaged"):
        build_model(config)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"initialisation": "scratch"}, "is a 3D checkpoint, which initialisation 'scratch' would throw away"),
        (
            {"initialisation": "average"},
            "is a 3D checkpoint, which cannot be inflated again \\(initialisation 'average'\\)",
        ),
        ({"num_output_slices": 5}, "num_output_slices must be at most num_slices = 3; got 5"),
        ({"stem_sizes": [0]}, r"is a 3D checkpoint with stem_sizes \[4, 4, 8\]; got \[\]"),
    ],
)
def test_options_that_contradict_a_3d_checkpoint_are_refused(change, complaint, config):
    first = train(replace(config, max_steps=1))
    build_model(replace(config, base_model=str(first), num_slices=5))  # the default, which nobody has asked for
    with pytest.raises(ValueError, match=complaint):
        build_model(replace(config, base_model=str(first), **change))


def test_a_model_of_the_center_slice_learns_to_label_several(config, tmp_path):
    first = train(replace(config, max_steps=1))
    center, _ = build_model(replace(config, base_model=str(first)))
    config = replace(
        config, base_model=str(first), num_output_slices=3, output_dir=str(tmp_path / "several"), max_steps=2
    )
    several, processor = build_model(config)
    block = torch.rand(1, 1, 3, 32, 32)
    with torch.inference_mode():
        wanted = center.eval()(block).logits.expand(-1, -1, 3, -1, -1)
        torch.testing.assert_close(several.eval()(block).logits, wanted)
    assert (several.config.num_output_slices, processor.num_output_slices) == (3, 3)
    several, processor = load_checkpoint(train(config))
    assert (several.config.num_output_slices, processor.num_output_slices) == (3, 3)
    with pytest.raises(TrainingError, match="is a 3D checkpoint with num_output_slices 3; got 5"):
        build_model(replace(config, base_model=str(tmp_path / "several"), num_output_slices=5))
