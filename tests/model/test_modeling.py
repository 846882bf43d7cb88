"""NeuronViT3DForSegmentation behaves as a model of transformers does: the checks of its ModelTesterMixin that matter
here."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation, ViTConfig
from transformers.modeling_outputs import SemanticSegmenterOutput

from neuron_vit3d import (
    NeuronViT3DConfig,
    NeuronViT3DForSegmentation,
    NeuronViT3DImageProcessor,
    NeuronViT3DModel,
)
from neuron_vit3d.model.backbones import FAMILIES, Level
from neuron_vit3d.model.decoder import FeatureLevel, pad_to_multiple
from neuron_vit3d.model.modeling_neuron_vit3d import dice_cross_entropy_loss
from support.tiny_models import TILE, tiny_block, tiny_config, tiny_model


# -- what goes in and what comes out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stem_sizes", [[], [4, 8, 8]])
@pytest.mark.parametrize(
    ("channels", "slices", "outputs", "labels"), [(1, 1, 1, 2), (1, 5, 3, 2), (2, 3, 1, 4), (3, 3, 3, 3)]
)
def test_logits_have_the_shape_that_the_config_says(channels, slices, outputs, labels, stem_sizes):
    sizes = {"num_slices": slices, "num_channels": channels, "num_output_slices": outputs, "num_labels": labels}
    model = tiny_model(**sizes, stem_sizes=stem_sizes)
    logits = model(tiny_block(channels=channels, slices=slices)).logits
    assert logits.shape == (2, labels, outputs, TILE, TILE)
    assert logits.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 33), (40, 17)])
def test_sides_need_not_be_multiples_of_the_patch(family, height, width):
    model = tiny_model(family)
    outputs = model(tiny_block(height=height, width=width), output_hidden_states=True)
    assert outputs.logits.shape == (2, 2, 1, height, width)
    assert outputs.logits.isfinite().all()
    assert outputs.hidden_states[0].shape[1] >= -(-height // 8) * -(-width // 8)


def test_padding_repeats_the_border_and_leaves_multiples_alone():
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    padded = pad_to_multiple(image, 4)
    assert padded.shape == (1, 1, 4, 4)
    assert torch.equal(padded[..., :2, :3], image)
    assert torch.equal(padded[0, 0, 3], torch.tensor([3.0, 4.0, 5.0, 5.0]))
    assert pad_to_multiple(padded, 4) is padded


@pytest.mark.parametrize("family", ["vit", "dinov3_vit"])
def test_logits_lie_over_the_pixels_they_belong_to(family):
    model, block = tiny_model(family), tiny_block(height=30, width=19)
    padded = pad_to_multiple(block.flatten(1, 2), 8).unflatten(1, (1, 3))
    assert padded.shape[-2:] == (32, 24)
    torch.testing.assert_close(model(block).logits, model(padded).logits[..., :30, :19], atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_tokens_are_laid_out_at_their_patches_and_prefix_tokens_left_out(scale):
    level = FeatureLevel(channels=6, size=4, scale=scale)
    tokens = torch.randn(1, 3 + 2 * 5, 6)

    def laid_out(tokens: torch.Tensor) -> torch.Tensor:
        return level(FAMILIES["vit"].feature_map(tokens, Level(channels=6, stride=8), height=16, width=40))

    expected = laid_out(tokens)
    assert expected.shape == (1, 4, 2 * scale, 5 * scale)
    for index in range(13):
        changed = tokens.clone()
        changed[:, index] = torch.randn(6)
        where = (laid_out(changed) != expected).any(dim=1)[0].nonzero() // scale
        patch = [] if index < 3 else [divmod(index - 3, 5)]
        assert sorted({tuple(place.tolist()) for place in where}) == patch


def test_every_channel_and_slice_is_looked_at():
    model = tiny_model(num_channels=2, num_slices=5)
    block = tiny_block(channels=2, slices=5)
    logits = model(block).logits
    for channel in range(2):
        for z in range(5):
            changed = block.clone()
            changed[:, channel, z] += 1
            assert (model(changed).logits - logits).abs().max() > 1e-4


def test_wrong_block_is_refused_with_what_was_expected():
    model = tiny_model()
    for shape in ((2, 1, 5, 32, 32), (2, 2, 3, 32, 32), (2, 3, 32, 32)):
        with pytest.raises(
            ValueError, match=r"expected pixel_values \(batch, 1 channels, 3 slices, height, width\), got"
        ):
            model(torch.zeros(shape))


def test_batch_is_a_batch():
    model, block = tiny_model(), tiny_block(batch=3)
    logits = model(block).logits
    torch.testing.assert_close(torch.cat([model(each).logits for each in block.split(1)]), logits, atol=1e-5, rtol=0)


def test_hidden_states_come_all_or_chosen_or_not_at_all():
    model, block = tiny_model(), tiny_block()
    everything = model(block, output_hidden_states=True).hidden_states
    assert len(everything) == 5
    chosen = model(block, output_hidden_states=[0, 3]).hidden_states
    # At the places they have among all, as in transformers' own models.
    assert [state is not None for state in chosen] == [True, False, False, True, False]
    assert torch.equal(chosen[0], everything[0]) and torch.equal(chosen[3], everything[3])
    assert model(block).hidden_states is None
    assert model(block, output_hidden_states=False).hidden_states is None
    model.config.output_hidden_states = True
    assert len(model(block).hidden_states) == 5


def test_eager_attention_shows_its_weights():
    model = tiny_model()
    model.set_attn_implementation("eager")
    attentions = model(tiny_block(), output_attentions=True).attentions
    assert [attention.shape for attention in attentions] == [(2, 2, 17, 17)] * 4
    torch.testing.assert_close(attentions[0].sum(-1), torch.ones(2, 2, 17))
    assert model(tiny_block()).attentions is None


def test_tuple_output_holds_the_same():
    model, block = tiny_model(), tiny_block()
    labels = torch.zeros(2, 1, TILE, TILE, dtype=torch.long)
    outputs = model(block, labels=labels, output_hidden_states=True)
    assert isinstance(outputs, SemanticSegmenterOutput)
    loss, logits, hidden_states = model(block, labels=labels, output_hidden_states=True, return_dict=False)
    assert torch.equal(loss, outputs.loss) and torch.equal(logits, outputs.logits)
    assert torch.equal(hidden_states[-1], outputs.hidden_states[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_eager_and_sdpa_attention_agree(family):
    model, block = tiny_model(family), tiny_block()
    logits = {}
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        assert model.base_model.backbone.config._attn_implementation == attention
        logits[attention] = model(block).logits
    torch.testing.assert_close(logits["eager"], logits["sdpa"], atol=1e-5, rtol=1e-5)


def test_evaluation_is_deterministic():
    model, block = tiny_model("beit"), tiny_block()
    assert torch.equal(model(block).logits, model(block).logits)


# -- saving and loading ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_model_comes_back_through_every_door(family, tmp_path):
    model, block = tiny_model(family), tiny_block()
    model.save_pretrained(tmp_path)
    NeuronViT3DImageProcessor.for_model(model.config).save_pretrained(tmp_path)
    expected = model(block, output_hidden_states=True)
    for door in (NeuronViT3DForSegmentation, AutoModelForSemanticSegmentation):
        again, info = door.from_pretrained(tmp_path, output_loading_info=True)
        assert type(again) is NeuronViT3DForSegmentation
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert torch.equal(again(block).logits, expected.logits)
    for door in (NeuronViT3DModel, AutoModel):
        encoder, info = door.from_pretrained(tmp_path, output_loading_info=True)
        assert type(encoder) is NeuronViT3DModel
        assert not info["missing_keys"] and not info["mismatched_keys"]
        assert all(key.startswith("decoder.") for key in info["unexpected_keys"])
        states = encoder(block, output_hidden_states=True).hidden_states
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(states, expected.hidden_states, strict=True))
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is NeuronViT3DImageProcessor


@pytest.mark.slow
def test_saved_encoder_comes_back_under_a_new_decoder(tmp_path):
    encoder = tiny_model("dinov3_vit").base_model
    encoder.save_pretrained(tmp_path)
    assert torch.equal(NeuronViT3DModel.from_pretrained(tmp_path)(tiny_block())[0], encoder(tiny_block())[0])
    model, info = NeuronViT3DForSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] and all(key.startswith("decoder.") for key in info["missing_keys"])
    assert torch.equal(model.base_model(tiny_block())[0], encoder(tiny_block())[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_weights_are_initialised_never_left_as_they_lay_in_memory(family):
    models = []
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN, so that nothing forgotten can hide
    try:
        for _ in range(2):
            torch.manual_seed(0)
            models.append(NeuronViT3DForSegmentation.from_pretrained(None, config=tiny_config(family), state_dict={}))
    finally:
        torch.use_deterministic_algorithms(False)
    first, second = (model.state_dict() for model in models)
    assert list(first) == list(second)
    for key, tensor in first.items():
        assert tensor.isfinite().all(), key
        assert torch.equal(tensor, second[key]), key
    assert models[0](tiny_block()).logits.isfinite().all()


@pytest.mark.parametrize(("labels", "outputs"), [(2, 1), (3, 3)])
def test_a_new_decoder_begins_with_few_voxels_being_neuron_and_a_loaded_one_as_it_was(labels, outputs, tmp_path):
    config = tiny_config(num_labels=labels, num_output_slices=outputs)
    model = NeuronViT3DForSegmentation(config)
    bias = model.decoder.classifier.bias.view(labels, outputs).softmax(0)
    assert torch.allclose(bias[1:] / bias[:1], torch.tensor(0.05 / 0.95))
    bias = torch.randn(labels * outputs)
    model.decoder.classifier.bias.data.copy_(bias)
    model.save_pretrained(tmp_path)
    assert torch.equal(NeuronViT3DForSegmentation.from_pretrained(tmp_path).decoder.classifier.bias, bias)
    model.base_model.backbone.save_pretrained(tmp_path / "2d")
    started = NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path / "2d", num_slices=3)
    assert started.decoder.classifier.bias.softmax(0)[1].item() == pytest.approx(0.05)


def test_from_pretrained_2d_is_reproducible_under_a_seed(tmp_path):
    tiny_model().base_model.backbone.save_pretrained(tmp_path)
    models = []
    for _ in range(2):
        torch.manual_seed(7)
        models.append(NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path, num_slices=3).eval())
    assert torch.equal(models[0](tiny_block()).logits, models[1](tiny_block()).logits)


def test_bfloat16_load_computes_nearly_the_same(tmp_path):
    model, block = tiny_model(), tiny_block()
    model.save_pretrained(tmp_path)
    half = NeuronViT3DForSegmentation.from_pretrained(tmp_path, dtype=torch.bfloat16)
    logits = half(block).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(block).logits, atol=0.1, rtol=0.1)


def test_attention_is_chosen_while_loading(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model = NeuronViT3DForSegmentation.from_pretrained(tmp_path, attn_implementation="eager")
    assert model.base_model.backbone.config._attn_implementation == "eager"


# -- training --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"stem_sizes": []}, {"out_indices": [0, 1, 1, 2]}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_trainable_parameter_gets_a_gradient(family, changes, tmp_path):
    # A parameter that wants a gradient and gets none stops distributed training.
    tiny_model(family, **changes).save_pretrained(tmp_path)
    loaded = NeuronViT3DForSegmentation.from_pretrained(tmp_path)
    for model in (NeuronViT3DForSegmentation(tiny_config(family, **changes)), loaded):
        model.train()(tiny_block(), labels=random_labels()).loss.backward()
        without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert without == []
        assert sum(p.requires_grad for p in model.base_model.parameters()) > 30


def test_encoder_alone_keeps_its_final_norm_trainable():
    encoder = NeuronViT3DModel(tiny_config("dinov2"))
    encoder(tiny_block()).last_hidden_state.square().mean().backward()
    frozen = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    assert frozen == ["backbone.embeddings.mask_token"]
    assert all(parameter.grad is not None for parameter in encoder.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("family", ["vit", "dinov2", "dinov3_vit"])
def test_activation_checkpointing_gives_the_same_gradients(family):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(family)
        if checkpointing:
            model.activation_checkpointing_enable()
            assert model.is_activation_checkpointing
        model.train()(tiny_block(), labels=random_labels()).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert list(gradients[0]) == list(gradients[1])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_a_few_steps_learn_a_block_by_heart():
    model, block = tiny_model().train(), tiny_block()
    labels = (block[:, :, 1] > 1).squeeze(1).unsqueeze(1).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = model(block, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


# -- the loss --------------------------------------------------------------------------------------------------------


def test_loss_of_perfect_logits_is_nearly_nothing_and_of_inverted_ones_large():
    labels = random_labels(num_labels=3, slices=3)
    perfect = 30 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert dice_cross_entropy_loss(perfect, labels) < 1e-4
    assert dice_cross_entropy_loss(-perfect, labels) > 2


@pytest.mark.parametrize("ignore_index", [255, -100])
def test_ignored_voxels_do_not_count(ignore_index):
    labels, logits = random_labels(), torch.randn(2, 2, 1, TILE, TILE)
    ignored = torch.rand(labels.shape) < 0.3
    labels[ignored] = ignore_index
    loss = dice_cross_entropy_loss(logits, labels, ignore_index=ignore_index)
    changed = torch.where(ignored.unsqueeze(1), 100 * torch.randn_like(logits), logits)
    torch.testing.assert_close(dice_cross_entropy_loss(changed, labels, ignore_index=ignore_index), loss)
    kept = logits.movedim(1, 0)[:, ~ignored].reshape(2, -1).T.reshape(-1, 2, 1, 1, 1)
    torch.testing.assert_close(dice_cross_entropy_loss(kept, labels[~ignored].reshape(-1, 1, 1, 1)), loss)


def test_loss_of_nothing_but_ignored_voxels_is_zero_with_finite_gradients():
    logits = torch.randn(1, 2, 1, 4, 4, requires_grad=True)
    loss = dice_cross_entropy_loss(logits, torch.full((1, 1, 4, 4), 255))
    loss.backward()
    assert loss == 0 and logits.grad.isfinite().all()


def test_processes_that_add_up_their_sums_compute_the_loss_of_all_blocks():
    labels, logits = random_labels(num_labels=3, slices=3), torch.randn(2, 3, 3, TILE, TILE)
    labels[0, :, :20] = 255  # so that the mean of the blocks' losses is another
    sums = []
    for block in range(2):
        dice_cross_entropy_loss(logits[block, None], labels[block, None], total=lambda own: sums.append(own) or own)
    assert len(sums) == 2  # one addition a loss
    whole = dice_cross_entropy_loss(logits, labels)
    for block in range(2):
        loss = dice_cross_entropy_loss(logits[block, None], labels[block, None], total=lambda own: sums[0] + sums[1])
        torch.testing.assert_close(loss, whole)


def test_model_reads_its_ignore_index_from_the_config():
    model, block = tiny_model(semantic_loss_ignore_index=1), tiny_block()
    logits = model(block).logits
    expected = dice_cross_entropy_loss(logits, random_labels(), ignore_index=1)
    torch.testing.assert_close(model(block, labels=random_labels()).loss, expected)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected labels of shape \(2, 1, 32, 32\) .*, got \(2, 32, 32\)"):
        tiny_model()(tiny_block(), labels=torch.zeros(2, TILE, TILE, dtype=torch.long))


# -- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_decoder_is_light_and_slices_are_free():
    vit_base = multiplications(ViTConfig(), num_slices=5)
    assert vit_base["decoder"] < vit_base["encoder"] / 3
    assert vit_base["encoder"] <= 1.01 * multiplications(ViTConfig(), num_slices=1)["encoder"]


def multiplications(backbone_config, **sizes) -> dict[str, int]:
    """Multiplications in convolutions and matrix products for one block of 224 x 224, by part; takes no memory."""
    with torch.device("meta"):
        model = NeuronViT3DForSegmentation(NeuronViT3DConfig(backbone_config=backbone_config, **sizes))
        block = torch.empty(1, 1, model.config.num_slices, 224, 224)
    model.set_attn_implementation("eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(block)
    counts = counter.get_flop_counts()
    return {part: sum(counts[f"NeuronViT3DForSegmentation.{part}"].values()) // 2 for part in ("encoder", "decoder")}


def random_labels(*, num_labels: int = 2, slices: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, num_labels, (2, slices, TILE, TILE), generator=generator)


def test_a_model_built_from_a_half_precision_checkpoints_config_is_in_full_precision():
    config = tiny_config()
    config.backbone_config.dtype = "float16"
    assert {parameter.dtype for parameter in NeuronViT3DForSegmentation(config).parameters()} == {torch.float32}


def test_a_model_cuts_low_scores_only_where_it_is_asked_to_and_not_while_it_learns(tmp_path):
    model = tiny_model(lowest_score=0.49)
    plain = tiny_model()
    block = tiny_block()
    assert (model(block).logits.min() < -1e3) and (plain(block).logits.min() > -1e3)
    assert model.train()(block).logits.min() > -1e3
    labels = torch.zeros(2, 1, TILE, TILE, dtype=torch.long)
    assert model.eval()(block, labels=labels).loss.isfinite()
    model.save_pretrained(tmp_path)
    assert NeuronViT3DForSegmentation.from_pretrained(tmp_path).config.lowest_score == 0.49
    for bad in (-0.1, 0.5):
        with pytest.raises(ValueError, match=r"lowest_score must be at least 0 and below 0\.5"):
            tiny_config(lowest_score=bad)
