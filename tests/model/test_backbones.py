"""The entries of the families of 2D models: each says what its models really have."""

import dataclasses

import pytest
import torch
from transformers import ConvNextConfig, ConvNextModel

from neuron_vit3d import NeuronViT3DForSegmentation
from neuron_vit3d.model.backbones import FAMILIES, Family, Level, family_of
from support.tiny_models import PATCH, ROWS, config_2d, model_2d, tiny_block, tiny_model


def test_every_family_has_its_row_in_the_tests():
    assert list(ROWS) == list(FAMILIES)
    assert all(name == family.model_type for name, family in FAMILIES.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_entry_names_the_parts_of_its_models(family):
    model, entry = model_2d(family), FAMILIES[family]
    assert len(model.get_submodule(entry.layers)) == model.config.num_hidden_layers
    assert [type(model.get_submodule(kernel)) for kernel in entry.kernels] == [torch.nn.Conv2d] * len(entry.kernels)
    assert isinstance(model.get_submodule(entry.final_norm), torch.nn.LayerNorm | torch.nn.Identity)
    convolutions = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert convolutions == list(entry.kernels)  # none that reads the picture is forgotten
    assert (entry.position_embeddings(model) is not None) == (ROWS[family].positions == "learned")


@pytest.mark.parametrize("family", FAMILIES)
def test_levels_are_the_sizes_of_the_maps(family):
    model = tiny_model(family)
    config, block = model.config, tiny_block(height=30, width=45)  # padded to 32 x 48
    assert config.feature_levels == (Level(channels=32, stride=PATCH),) * 4
    hidden_states = model.base_model(block, output_hidden_states=True).hidden_states
    assert len(config.family.levels(config.backbone_config)) == len(hidden_states) == 5
    maps = model.base_model.feature_maps(hidden_states, block)
    assert [one.shape for one in maps] == [(2, 32, 4, 6)] * 4
    first_patch = hidden_states[config.out_indices[0]][:, ROWS[family].prefix_tokens]
    assert torch.equal(maps[0][:, :, 0, 0], first_patch)
    assert torch.equal(maps[-1][:, :, -1, -1], hidden_states[config.out_indices[-1]][:, -1])
    assert maps[0].untyped_storage().data_ptr() == hidden_states[config.out_indices[0]].untyped_storage().data_ptr()


def test_a_patch_may_be_given_by_two_sides():
    assert FAMILIES["vit"].levels(config_2d(patch_size=[PATCH, PATCH])) == FAMILIES["vit"].levels(config_2d())


def test_weights_that_nobody_reads_are_told_by_their_names():
    vit = FAMILIES["vit"]
    assert all(vit.is_unused(key) for key in ("pooler.dense.weight", "embeddings.mask_token"))
    assert not any(vit.is_unused(key) for key in ("poolers.weight", "embeddings.cls_token", "layernorm.weight"))


def test_an_entry_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FAMILIES["vit"].layers = "blocks"


def test_another_family_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"x: cannot inflate a model of type 'gpt2'; .* can be: vit, deit, dinov2, "):
        family_of("x", "gpt2")


# -- what an entry must be able to say -------------------------------------------------------------------------------


class Hierarchy(Family):
    """An entry for models whose hidden states are maps already, each coarser than the one before."""

    def levels(self, config):
        sizes = [Level(size, config.patch_size * 2**stage) for stage, size in enumerate(config.hidden_sizes)]
        return (sizes[0], *sizes)

    def feature_map(self, hidden_state, level, height, width):
        return hidden_state


def test_a_hierarchy_needs_no_more_than_its_entry(tmp_path, monkeypatch):
    names = {"kernels": ("embeddings.patch_embeddings",), "layers": "encoder.stages", "positions": None}
    monkeypatch.setitem(FAMILIES, "convnext", Hierarchy("convnext", options={}, **names))
    torch.manual_seed(0)
    flat = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1])).eval()
    flat.save_pretrained(tmp_path / "2d")
    model = NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path / "2d", num_slices=3)
    assert [level.stride for level in model.config.feature_levels] == [4, 8, 16, 32]
    block = tiny_block(height=64, width=96)
    with torch.no_grad():
        ours = model.eval().base_model(block, output_hidden_states=True).hidden_states
        theirs = flat(block[:, :, 1].repeat(1, 3, 1, 1), output_hidden_states=True).hidden_states
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    block = tiny_block(height=70, width=90)  # padded to multiples of the deepest stride, 32
    model.train()(block, labels=torch.ones(2, 1, 70, 90, dtype=torch.long)).loss.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    model.eval().save_pretrained(tmp_path / "3d")
    again = NeuronViT3DForSegmentation.from_pretrained(tmp_path / "3d")
    assert torch.equal(again(block).logits, model(block).logits) and again(block).logits.shape[-2:] == (70, 90)
