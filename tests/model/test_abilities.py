"""What users of transformers do to a model: shard, split over devices, compile, resize; it stays what it was."""

import copy

import pytest
import torch

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DModel
from neuron_vit3d.model.backbones import FAMILIES
from support.tiny_models import PATCH, ROWS, TILE, tiny_block, tiny_config, tiny_model


LEARNED_POSITIONS = [family for family, row in ROWS.items() if row.positions == "learned"]


def same(one: torch.Tensor, other: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


# -- loading ---------------------------------------------------------------------------------------------------------


def test_sharded_weights_come_back(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert torch.equal(
        NeuronViT3DForSegmentation.from_pretrained(tmp_path)(tiny_block()).logits, model(tiny_block())[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "device_map",
    ["auto", {"": "cpu"}, {"encoder": "cpu", "decoder": "disk"}, {"encoder": "disk", "decoder": "cpu"}],
    ids=str,
)
def test_split_over_devices_and_disk_it_computes_the_same(device_map, tmp_path):
    model = tiny_model("dinov2")
    model.save_pretrained(tmp_path / "saved")
    split = NeuronViT3DForSegmentation.from_pretrained(
        tmp_path / "saved", device_map=device_map, offload_folder=tmp_path / "offloaded"
    )
    if isinstance(device_map, dict) and len(device_map) > 1:
        assert split.hf_device_map == device_map
    with torch.no_grad():
        same(split(tiny_block()).logits, model(tiny_block()).logits)


def test_layers_and_the_decoder_are_never_split(tmp_path):
    assert {"NeuronViT3DDecoder", "ViTLayer"} <= set(tiny_model()._no_split_modules)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_by_loading_or_by_conversion_is_the_same(dtype, tmp_path):
    model, block = tiny_model(), tiny_block()
    model.save_pretrained(tmp_path)
    loaded = NeuronViT3DForSegmentation.from_pretrained(tmp_path, dtype=dtype)
    assert loaded.dtype == dtype and loaded(block).logits.dtype == dtype
    assert torch.equal(loaded(block).logits, copy.deepcopy(model).to(dtype)(block).logits)
    torch.testing.assert_close(loaded(block).logits.float(), model(block).logits, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains(dtype):
    model = tiny_model().train()
    with torch.autocast("cpu", dtype):
        loss = model(tiny_block(), labels=torch.zeros(2, 1, TILE, TILE, dtype=torch.long)).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_built_without_memory():
    with torch.device("meta"):
        model = NeuronViT3DForSegmentation(tiny_config())
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


# -- attention -------------------------------------------------------------------------------------------------------


def test_attention_is_chosen_for_the_2d_transformer_too(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    for attention in ("eager", "sdpa"):
        model = NeuronViT3DForSegmentation.from_pretrained(tmp_path, attn_implementation=attention)
        assert model.config._attn_implementation == model.encoder.backbone.config._attn_implementation == attention


def test_flash_attention_is_asked_for_by_name_and_missing_in_transformers_own_words(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises((ImportError, ValueError), match=r"(?i)flash"):
        NeuronViT3DForSegmentation.from_pretrained(tmp_path, attn_implementation="flash_attention_2")


@pytest.mark.parametrize("cls", [NeuronViT3DForSegmentation, NeuronViT3DModel])
def test_hidden_states_are_chosen_by_their_index(cls):
    model = tiny_model()
    model = model if cls is NeuronViT3DForSegmentation else model.base_model
    everything = model(tiny_block(), output_hidden_states=True).hidden_states
    for asked, places in ((2, [2]), (-1, [4]), ([0, 3], [0, 3]), ((1, -1), [1, 4])):
        chosen = model(tiny_block(), output_hidden_states=asked).hidden_states
        assert [index for index, state in enumerate(chosen) if state is not None] == places
        assert all(torch.equal(chosen[index], everything[index]) for index in places)


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_and_attentions_keep_their_gradients(family):
    model = tiny_model(family)
    model.set_attn_implementation("eager")
    outputs = model.base_model(tiny_block(), output_hidden_states=True, output_attentions=True)
    for tensor in (*outputs.hidden_states, *outputs.attentions):
        tensor.retain_grad()
    outputs.last_hidden_state[:, 0].sum().backward()
    assert all(tensor.grad is not None for tensor in (outputs.hidden_states[0], *outputs.attentions))


# -- compilation -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "dinov2", "dinov3_vit"])
def test_the_compiled_encoder_is_one_graph(family):
    encoder = tiny_model(family).encoder
    for side in (TILE, TILE + 2 * PATCH, TILE + 3):  # as pre-trained, another, one that needs padding
        torch._dynamo.reset()
        compiled = torch.compile(encoder, fullgraph=True, backend="eager")
        block = tiny_block(height=side, width=side)
        with torch.no_grad():
            if side == TILE:  # else what is compiled for the states says the same
                same(compiled(block).last_hidden_state, encoder(block).last_hidden_state)
            both = compiled(block, output_hidden_states=True)
            same(both.last_hidden_state, encoder(block).last_hidden_state)
        assert len(both.hidden_states) == 5


@pytest.mark.slow
def test_compiled_is_equal_to_eager():
    model = tiny_model()
    torch._dynamo.reset()
    with torch.no_grad():
        same(torch.compile(model, fullgraph=True)(tiny_block()).logits, model(tiny_block()).logits, atol=1e-4)


# -- positions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", LEARNED_POSITIONS)
def test_resized_positions_change_nothing_at_the_new_size(family, tmp_path):
    model, side = tiny_model(family), TILE + 2 * PATCH
    block = tiny_block(height=side, width=side)
    before = model(block).logits
    model.resize_position_embeddings(side)
    assert model.get_position_embeddings().shape[1] == ROWS[family].positions_at(side)
    assert model.config.image_size == side
    same(model(block).logits, before)
    model.save_pretrained(tmp_path)
    assert torch.equal(NeuronViT3DForSegmentation.from_pretrained(tmp_path)(block).logits, model(block).logits)


def test_rotary_positions_need_no_resizing():
    model, block = tiny_model("dinov3_vit"), tiny_block(height=48, width=48)
    before = model(block).logits
    model.resize_position_embeddings(48)
    assert model.get_position_embeddings() is None
    assert torch.equal(model(block).logits, before)


def test_positions_that_cannot_be_resized_are_left_as_they_are():
    with pytest.raises(ValueError, match="new_image_size must be a positive multiple of the patch 8; got 30"):
        tiny_model().resize_position_embeddings(30)
    with pytest.raises(ValueError, match="positions of 'beit' belong to pairs of patches"):
        tiny_model("beit").resize_position_embeddings(48)
