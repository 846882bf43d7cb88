"""What transformers' ModelTesterMixin asks of every model, asked of every family: what `test_modeling.py` and
`test_abilities.py` do not ask already."""

import inspect
import json

import pytest
import torch
from transformers import AttentionInterface, BitsAndBytesConfig, TorchAoConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation, NeuronViT3DModel
from neuron_vit3d.model.backbones import FAMILIES
from support.tiny_models import PATCH, ROWS, TILE, config_2d, tiny_block, tiny_config, tiny_model


COMPILED = ["vit", "dinov2", "dinov3_vit"]  # positions asked to be interpolated, always interpolated, and rotary
RESIZED = [name for name, family in FAMILIES.items() if not family.why_not_resized]


@pytest.fixture
def folder(tmp_path):
    """A tiny model and where it is saved."""
    model = tiny_model()
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


# -- forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_class", [NeuronViT3DForSegmentation, NeuronViT3DModel])
def test_forward_begins_with_the_pixel_values(model_class):
    first = list(inspect.signature(model_class.forward).parameters)[:2]
    assert first == ["self", model_class.main_input_name] == ["self", "pixel_values"]


@pytest.mark.parametrize("family", FAMILIES)
def test_there_is_a_hidden_state_before_and_after_every_layer(family):
    model, tokens = tiny_model(family), (TILE // PATCH) ** 2 + ROWS[family].prefix_tokens
    for outputs in (each(tiny_block(), output_hidden_states=True) for each in (model, model.base_model)):
        assert [state.shape for state in outputs.hidden_states] == [(2, tokens, 32)] * 5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_hidden_state_and_attention_of_the_whole_model_keeps_its_gradient(family):
    model = tiny_model(family)
    model.set_attn_implementation("eager")
    outputs = model(tiny_block(), output_hidden_states=True, output_attentions=True)
    assert len(outputs.hidden_states) == 5 and len(outputs.attentions) == 4
    for tensor in (*outputs.hidden_states, *outputs.attentions):
        tensor.retain_grad()
    outputs.logits[0, 0, 0, 0, 0].backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in (*outputs.hidden_states, *outputs.attentions))


@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_returns_the_same_as_a_tuple(family):
    encoder = tiny_model(family).base_model
    outputs = encoder(tiny_block(), output_hidden_states=True)
    last, hidden_states = encoder(tiny_block(), output_hidden_states=True, return_dict=False)
    assert torch.equal(last, outputs.last_hidden_state)
    assert all(torch.equal(one, other) for one, other in zip(hidden_states, outputs.hidden_states, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_is_computed_alike_in_every_batch(family):
    model, block = tiny_model(family), tiny_block(batch=3)
    whole = model(block, output_hidden_states=True)
    for index in range(3):
        alone = model(block[index : index + 1], output_hidden_states=True)
        pairs = zip((alone.logits, *alone.hidden_states), (whole.logits, *whole.hidden_states), strict=True)
        for one, all_of_them in pairs:
            expected = all_of_them[index : index + 1]
            torch.testing.assert_close(one, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


# -- attention -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("family", COMPILED)
def test_flex_attention_agrees_with_sdpa(family):
    model, block = tiny_model(family), tiny_block()
    with torch.no_grad():  # on a CPU it has no backward pass
        expected = model(block).logits
        model.set_attn_implementation("flex_attention")
        assert model.base_model.backbone.config._attn_implementation == "flex_attention"
        torch.testing.assert_close(model(block).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_of_the_users_own_is_what_every_layer_calls(family):
    calls = []

    def own(*args, **kwargs):
        calls.append(1)
        return sdpa_attention_forward(*args, **kwargs)

    model, block = tiny_model(family), tiny_block()
    expected = model(block).logits
    AttentionInterface.register("own", own)
    try:
        model.set_attn_implementation("own")
        for part in (model, model.base_model, model.base_model.backbone):
            assert part.config._attn_implementation == "own"
        assert torch.equal(model(block).logits, expected)
    finally:
        AttentionInterface._global_mapping.pop("own")
    assert len(calls) == 4


# -- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_loaded_as_asked_and_saved_as_loaded(family, dtype, tmp_path):
    model, block = tiny_model(family), tiny_block()
    model.save_pretrained(tmp_path / "full")
    expected = model(block).logits
    half = NeuronViT3DForSegmentation.from_pretrained(tmp_path / "full", dtype=dtype)
    assert half.dtype == half.base_model.dtype == dtype
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    close = {"atol": 0.03 * expected.abs().max().item(), "rtol": 0}
    for each in (half, model.to(dtype)):
        outputs = each(block, labels=torch.zeros(2, 1, TILE, TILE, dtype=torch.long))
        assert outputs.logits.dtype == dtype and outputs.loss.dtype == torch.float32
        torch.testing.assert_close(outputs.logits.float(), expected, **close)
    half.save_pretrained(tmp_path / "half")
    again = NeuronViT3DForSegmentation.from_pretrained(tmp_path / "half")
    assert again.dtype == dtype
    assert torch.equal(again(block).logits, half(block).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_computes_nearly_the_same_in_half(dtype):
    model, block = tiny_model(), tiny_block()
    expected = model(block).logits
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        logits = model(block).logits
    assert logits.dtype == dtype and model.dtype == torch.float32
    torch.testing.assert_close(logits.float(), expected, atol=0.03 * expected.abs().max().item(), rtol=0)


# -- saving, loading and placing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", COMPILED)
def test_encoder_comes_out_of_the_shards_of_a_whole_model(family, tmp_path):
    model, block = tiny_model(family), tiny_block()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2 and not (tmp_path / "model.safetensors").exists()
    encoder = NeuronViT3DModel.from_pretrained(tmp_path)
    assert torch.equal(encoder(block).last_hidden_state, model.base_model(block).last_hidden_state)


def test_another_number_of_classes_is_refused_unless_asked_for(folder):
    model, path = folder
    with pytest.raises(ValueError, match=r"2 mismatched, first decoder\.classifier\.bias \(expected \(4,\), found"):
        NeuronViT3DForSegmentation.from_pretrained(path, num_labels=4)
    other, info = NeuronViT3DForSegmentation.from_pretrained(
        path, num_labels=4, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key for key, *_ in info["mismatched_keys"]} == {"decoder.classifier.weight", "decoder.classifier.bias"}
    assert other(tiny_block()).logits.shape == (2, 4, 1, TILE, TILE)
    assert other(tiny_block()).logits.isfinite().all()
    ours, theirs = model.state_dict(), other.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if "classifier" not in key)


@pytest.mark.parametrize("device_map", [{"encoder": "disk", "decoder": "cpu"}, {"encoder": "cpu", "decoder": "disk"}])
@pytest.mark.parametrize("family", ["dinov3_vit", "beit"])  # with buffers that are in no file
def test_a_part_that_stays_on_disk_computes_the_same(family, device_map, tmp_path):
    model, block = tiny_model(family), tiny_block()
    model.save_pretrained(tmp_path / "model")
    split = NeuronViT3DForSegmentation.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offload"
    )
    away = {name.split(".")[0] for name, parameter in split.named_parameters() if parameter.device.type == "meta"}
    assert away == {part for part, place in device_map.items() if place == "disk"}
    with torch.no_grad():
        torch.testing.assert_close(split(block).logits, model(block).logits, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_what_does_not_fit_into_memory_is_split_between_layers_never_inside(family, tmp_path):
    model, block = tiny_model(family), tiny_block()
    model.save_pretrained(tmp_path / "model")
    split = NeuronViT3DForSegmentation.from_pretrained(
        tmp_path / "model",
        device_map="auto",
        max_memory={"cpu": "150KB"},
        offload_folder=tmp_path / "offload",
    )
    assert set(split.hf_device_map.values()) == {"cpu", "disk"}
    whole = split._no_split_modules
    assert "NeuronViT3DDecoder" in whole and any(name.endswith("Layer") for name in whole)
    for name, module in split.named_modules():
        if type(module).__name__ in whole:
            assert not any(key.startswith(f"{name}.") for key in split.hf_device_map)
    with torch.no_grad():
        # Logits are of the order of ten here, and some processors round one or two bits otherwise.
        torch.testing.assert_close(split(block).logits, model(block).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_built_without_memory_it_has_every_weight_of_the_real_one(family):
    with torch.device("meta"):
        empty = NeuronViT3DForSegmentation(tiny_config(family))
    real = tiny_model(family)
    assert all(parameter.device.type == "meta" for parameter in empty.parameters())
    shapes = [[(key, each.shape, each.dtype) for key, each in m.state_dict().items()] for m in (empty, real)]
    assert shapes[0] == shapes[1]
    wanting = [{name for name, p in model.named_parameters() if p.requires_grad} for model in (empty, real)]
    assert wanting[0] == wanting[1]


# -- embeddings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_input_embeddings_are_the_patch_embedding(family):
    model = tiny_model(family)
    kernel = model.get_input_embeddings()
    assert kernel is model.base_model.get_input_embeddings()
    assert isinstance(kernel, torch.nn.Conv2d) and kernel.weight.shape == (32, 3, PATCH, PATCH)


@pytest.mark.slow
@pytest.mark.parametrize("side", [16, 48])
@pytest.mark.parametrize("family", RESIZED)
def test_resized_positions_leave_every_hidden_state_and_what_is_trained(family, side, tmp_path):
    model, block = tiny_model(family), tiny_block(height=side, width=side)
    wanting = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    before = model(block, output_hidden_states=True)
    model.resize_position_embeddings(side)
    after = model(block, output_hidden_states=True)
    for one, other in zip((before.logits, *before.hidden_states), (after.logits, *after.hidden_states), strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=0)
    positions = model.get_position_embeddings()
    if ROWS[family].positions == "rotary":
        assert positions is None
    else:
        assert positions.shape == (1, ROWS[family].positions_at(side), 32)
        assert positions is model.base_model.get_position_embeddings()
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == wanting
    model.save_pretrained(tmp_path)
    again = NeuronViT3DForSegmentation.from_pretrained(tmp_path)
    assert again.config.image_size == side
    assert torch.equal(again(block).logits, after.logits)


@pytest.mark.parametrize("model_class", [NeuronViT3DForSegmentation, NeuronViT3DModel])
def test_refused_sizes_leave_the_positions_of_either_model_alone(model_class):
    model = model_class(tiny_config("vit"))
    for side in (0, -8, 4, 33):
        with pytest.raises(ValueError, match=f"positive multiple of the patch 8; got {side}"):
            model.resize_position_embeddings(side)
    assert model.get_position_embeddings().shape == (1, 17, 32) and model.config.image_size == TILE


# -- compilation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("family", COMPILED)
def test_no_call_breaks_the_graph_of_the_whole_model_not_even_the_first(family, fresh_compiler):
    explanation = torch._dynamo.explain(tiny_model(family))(tiny_block(height=45, width=37))
    assert (explanation.graph_break_count, explanation.graph_count) == (0, 1)


@pytest.mark.slow
def test_compiled_model_takes_tiles_of_changing_sides(fresh_compiler):
    # From the second size on, the sides are variables of the graph.
    model = shallow_model()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for height, width in ((TILE, TILE), (45, 37), (64, 20)):
            block = tiny_block(height=height, width=width)
            torch.testing.assert_close(compiled(block).logits, model(block).logits, atol=1e-4, rtol=0)


def shallow_model() -> NeuronViT3DForSegmentation:
    """One layer, no stem: compiling takes its time by the number of operations."""
    torch.manual_seed(0)
    config = NeuronViT3DConfig(
        backbone_config=config_2d("vit", num_hidden_layers=1), num_slices=3, decoder_hidden_size=8, stem_sizes=[]
    )
    return NeuronViT3DForSegmentation(config).eval()


# -- quantisation ----------------------------------------------------------------------------------------------------


def int8(library: str):
    """Weights in 8 bits, by the library; the test is skipped where it is not installed."""
    pytest.importorskip(library, reason=f"needs {library}")
    if library == "bitsandbytes":
        return BitsAndBytesConfig(load_in_8bit=True)
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


@pytest.mark.quantization
@pytest.mark.parametrize("family", [*COMPILED, "beit"])
@pytest.mark.parametrize("library", ["torchao", "bitsandbytes"])
def test_quantised_loading_changes_the_linear_layers_and_nothing_else(library, family, tmp_path):
    quantisation, model, block = int8(library), tiny_model(family), tiny_block()
    model.save_pretrained(tmp_path / "full")
    quantised = NeuronViT3DForSegmentation.from_pretrained(tmp_path / "full", quantization_config=quantisation)
    linear = {f"{name}.weight" for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)}
    exact, changed = dict(model.named_parameters()), set()
    for name, parameter in quantised.named_parameters():
        if type(parameter) is not torch.nn.Parameter:
            changed.add(name)
        else:
            assert torch.equal(parameter, exact[name]), name
    assert changed == linear and len(linear) > 4 * 6
    assert torch.equal(quantised.base_model.patch_embedding_3d, model.base_model.patch_embedding_3d)
    with torch.no_grad():
        expected, logits = model(block).logits, quantised(block).logits
        assert logits.dtype == torch.float32 and not torch.equal(logits, expected)
        torch.testing.assert_close(logits, expected, atol=0.02 * expected.abs().max().item(), rtol=0)
        quantised.save_pretrained(tmp_path / "int8")
        again = NeuronViT3DForSegmentation.from_pretrained(tmp_path / "int8")
        assert torch.equal(again(block).logits, logits)
