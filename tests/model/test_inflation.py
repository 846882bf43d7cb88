"""Inflation is exact: on a block, the 3D encoder computes what the 2D transformer computes on a picture."""

import inspect
import re

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPModel,
    ResNetConfig,
    ResNetModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTForImageClassification,
)

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DModel
from neuron_vit3d.model.backbones import FAMILIES
from neuron_vit3d.model.inflation import INFLATIONS, inflate_patch_embedding, inflate_state_dict
from support.tiny_models import ROWS, model_2d, save_2d, tiny_block, write_dino_checkpoint


# With variants of the families that keep other weights: BEiT's positions and norms, DINOv2's gated layers.
VARIANTS = [(family, changes) for family in FAMILIES for changes in ({}, *ROWS[family].variants)]


@pytest.mark.parametrize("inflation", INFLATIONS)
@pytest.mark.parametrize(("family", "changes"), VARIANTS, ids=lambda value: str(value).replace("'", ""))
def test_inflated_encoder_computes_what_the_2d_transformer_computes(family, changes, inflation, tmp_path):
    model = NeuronViT3DForSegmentation.from_pretrained_2d(
        save_2d(tmp_path, family, **changes), inflation=inflation, num_slices=5
    )
    for height, width in ((32, 32), (48, 40)):  # the pre-training size, and another one
        block = block_for(inflation, height=height, width=width)
        check_same_hidden_states(model, model_2d(family, **changes), block)


@pytest.mark.parametrize("inflation", INFLATIONS)
@pytest.mark.parametrize("num_slices", [1, 3, 7])
def test_inflation_is_exact_for_other_numbers_of_slices(num_slices, inflation, tmp_path):
    model = NeuronViT3DForSegmentation.from_pretrained_2d(
        save_2d(tmp_path), inflation=inflation, num_slices=num_slices
    )
    check_same_hidden_states(model, model_2d(), block_for(inflation, slices=num_slices))


def test_three_channels_keep_the_colours():
    weight = torch.randn(6, 3, 2, 2)
    assert torch.equal(inflate_patch_embedding(weight, num_slices=5, num_channels=3)[:, :, 2], weight)


@pytest.mark.parametrize("inflation", INFLATIONS)
def test_other_numbers_of_channels_share_the_grey_response(inflation):
    weight = torch.randn(6, 3, 2, 2)
    inflated = inflate_patch_embedding(weight, num_slices=3, num_channels=2, inflation=inflation)
    assert inflated.shape == (6, 2, 3, 2, 2)
    torch.testing.assert_close(inflated.sum(dim=(1, 2)), weight.sum(1))
    torch.testing.assert_close(inflated[:, 0], inflated[:, 1])


def test_center_keeps_the_outer_slices_at_zero_and_average_treats_all_alike():
    weight = torch.randn(6, 3, 2, 2)
    center = inflate_patch_embedding(weight, num_slices=5, inflation="center")
    assert center[:, :, [0, 1, 3, 4]].abs().max() == 0 and center[:, :, 2].abs().min() > 0
    average = inflate_patch_embedding(weight, num_slices=5, inflation="average")
    assert torch.equal(average, average[:, :, :1].expand_as(average))


def test_inflated_weights_alias_nothing_of_the_2d_model():
    state_dict = model_2d().state_dict()
    inflated = inflate_state_dict(state_dict, FAMILIES["vit"], num_slices=3, num_channels=3, inflation="center")
    storages = {tensor.data_ptr() for tensor in state_dict.values()}
    assert not storages & {tensor.data_ptr() for tensor in inflated.values()}
    assert not any(key.startswith("pooler.") for key in inflated)


def test_inflation_names_what_it_did_not_expect():
    with pytest.raises(ValueError, match=r"center, average; got 'sum'"):
        inflate_patch_embedding(torch.zeros(6, 3, 2, 2), num_slices=3, inflation="sum")
    with pytest.raises(ValueError, match=r"2D kernel .* got shape \(6, 3, 2\)"):
        inflate_patch_embedding(torch.zeros(6, 3, 2), num_slices=3)
    with pytest.raises(ValueError, match=r"expected the weights of a vit, found none named embeddings\.patch"):
        inflate_state_dict(
            {"conv.weight": torch.zeros(1)}, FAMILIES["vit"], num_slices=3, num_channels=1, inflation="center"
        )


def test_patch_embedding_3d_shows_the_kernel_that_was_stored(tmp_path):
    model = NeuronViT3DForSegmentation.from_pretrained_2d(
        save_2d(tmp_path, "dinov3_vit"), num_slices=5, num_channels=2
    )
    kernel = model.base_model.patch_embedding_3d
    assert kernel.shape == (32, 2, 5, 8, 8)
    weight = model_2d("dinov3_vit").embeddings.patch_embeddings.weight
    torch.testing.assert_close(kernel[:, 1, 2], weight.sum(1) / 2)
    assert kernel.data_ptr() == model.base_model.get_input_embeddings().weight.data_ptr()


# -- real checkpoints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inflation", INFLATIONS)
def test_checkpoint_in_the_layout_of_dino_vitb16_loads_exactly(inflation, tmp_path):
    config, weights = write_dino_checkpoint(tmp_path, hidden_size=32, layers=2, heads=2, image_size=32, patch_size=8)
    model = NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path, inflation=inflation, num_slices=5)
    block = block_for(inflation)
    expected = plain_vit(weights, config, block[:, :, 2].repeat(1, 3, 1, 1))
    torch.testing.assert_close(model.eval().base_model(block).last_hidden_state, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_full_size_checkpoint_in_the_layout_of_dino_vitb16_loads_exactly(tmp_path):
    config, weights = write_dino_checkpoint(tmp_path)
    assert len(weights) == 198
    model = NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path, inflation="center", num_slices=5).eval()
    assert model.config.backbone_config.layer_norm_eps == ViTConfig().layer_norm_eps
    block = tiny_block(batch=1, slices=5, height=224, width=224)
    with torch.inference_mode():
        expected = plain_vit(weights, config, block[:, :, 2].repeat(1, 3, 1, 1))
        torch.testing.assert_close(model.base_model(block).last_hidden_state, expected, atol=1e-4, rtol=0)


@pytest.mark.real_data
@pytest.mark.parametrize("inflation", INFLATIONS)
@pytest.mark.parametrize(
    ("name", "side"), [("vit-tiny-patch16-224", 224), ("deit-tiny-patch16-224", 96), ("dinov2-vits14-saliency", 98)]
)
def test_real_weights_are_inflated_exactly(name, side, inflation, shared):
    # In float64: the tiny transformers' hidden states reach hundreds, float32 rounds them at 3e-4.
    folder = shared / "weights" / name
    model = NeuronViT3DForSegmentation.from_pretrained_2d(folder, inflation=inflation, dtype=torch.float64)
    block = block_for(inflation, batch=1, height=side, width=side).double()
    check_same_hidden_states(model, AutoModel.from_pretrained(folder, dtype=torch.float64), block, atol=1e-8)


@pytest.mark.real_data
def test_auto_dtype_follows_the_real_file(shared):
    folder = shared / "weights" / "vit-tiny-patch16-224"
    model = NeuronViT3DForSegmentation.from_pretrained_2d(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert model.config.name_or_path == model.name_or_path == str(folder)


def test_classification_checkpoint_gives_its_encoder(tmp_path):
    torch.manual_seed(0)
    model = ViTForImageClassification(model_2d().config).eval()
    model.save_pretrained(tmp_path)
    inflated = NeuronViT3DModel.from_pretrained_2d(tmp_path, num_slices=5)
    check_same_hidden_states(inflated, model.vit, block_for("center"))


# -- refusals --------------------------------------------------------------------------------------------------------


def test_other_models_than_2d_transformers_are_refused(tmp_path):
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    models = {
        "clip": CLIPModel(
            CLIPConfig(text_config={**tower, "vocab_size": 99}, vision_config={**tower, "image_size": 32})
        ),
        "swin": SwinModel(SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2)),
        "resnet": ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])),
    }
    for family, model in models.items():
        model.save_pretrained(tmp_path / family)
        expected = rf"{family}: cannot inflate a model of type '{family}'.*{re.escape(', '.join(FAMILIES))}"
        with pytest.raises(ValueError, match=expected):
            NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path / family)


class OpensAFile:
    """Unpickling one creates the file: so the test sees whether anybody did."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_pickled_checkpoint_is_refused_unopened(tmp_path):
    model = model_2d()
    model.config.save_pretrained(tmp_path)
    torch.save({**model.state_dict(), "trap": OpensAFile(str(tmp_path / "unpickled"))}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path)
    assert not (tmp_path / "unpickled").exists()


def test_checkpoint_that_lacks_weights_of_its_encoder_is_refused(tmp_path):
    model = model_2d()
    weights = {key: value for key, value in model.state_dict().items() if "layers.2." not in key}
    assert len(weights) < len(model.state_dict())
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match=r"the 2D checkpoint lacks weights of its own encoder: .*layers\.2\."):
        NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path)


def test_wrong_sizes_are_refused_before_weights_are_read(tmp_path):
    model_2d().config.save_pretrained(tmp_path)  # no weights beside it
    with pytest.raises(ValueError, match=r"num_slices must be odd and positive.*got 4"):
        NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path, num_slices=4)
    with pytest.raises(ValueError, match="inflation must be one of center, average; got 'sum'"):
        NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path, inflation="sum")


def test_missing_checkpoint_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path / "nowhere")


# -- what the tests above share --------------------------------------------------------------------------------------


def block_for(inflation: str, *, batch=2, slices=5, height=32, width=32) -> torch.Tensor:
    """A block on which the inflated model promises the 2D one's output: any for center, one of equal slices for
    average."""
    block = tiny_block(batch=batch, slices=slices, height=height, width=width)
    return block if inflation == "center" else block[:, :, slices // 2, None].expand(-1, -1, slices, -1, -1)


@torch.inference_mode()
def check_same_hidden_states(model, reference, block: torch.Tensor, atol: float = 1e-4) -> None:
    """The encoder on the block against the 2D model on the middle slice, repeated over its three colours."""
    picture = block[:, :, block.shape[2] // 2].repeat(1, 3, 1, 1)
    accepts = inspect.signature(reference.forward).parameters
    options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepts else {}
    if "noise" in accepts:  # a masked autoencoder: let it hide nothing and keep the order of the patches
        reference.config.mask_ratio = 0.0
        patches = picture.shape[-2] * picture.shape[-1] // reference.config.patch_size**2
        options["noise"] = torch.arange(patches, dtype=torch.float32).expand(len(picture), -1)
    expected = reference.eval()(picture, output_hidden_states=True, **options)
    outputs = model.eval().base_model(block, output_hidden_states=True)
    torch.testing.assert_close(outputs.last_hidden_state, expected.last_hidden_state, atol=atol, rtol=0)
    assert len(outputs.hidden_states) == len(expected.hidden_states)
    for ours, theirs in zip(outputs.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def plain_vit(weights: dict[str, torch.Tensor], config: dict, picture: torch.Tensor) -> torch.Tensor:
    """The vision transformer (Dosovitskiy et al. 2021) from the file's tensors alone, at its pre-training size."""

    def linear(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        return F.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], config["layer_norm_eps"]
        )

    def by_head(x):
        return x.unflatten(-1, (config["num_attention_heads"], -1)).transpose(1, 2)

    name = "embeddings.patch_embeddings.projection"
    x = F.conv2d(picture, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=config["patch_size"])
    x = torch.cat([weights["embeddings.cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = x + weights["embeddings.position_embeddings"]
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        y = norm(x, f"{name}.layernorm_before")
        query, key, value = (
            by_head(linear(y, f"{name}.attention.attention.{part}")) for part in ("query", "key", "value")
        )
        attention = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        x = x + linear((attention @ value).transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        y = norm(x, f"{name}.layernorm_after")
        x = x + linear(F.gelu(linear(y, f"{name}.intermediate.dense")), f"{name}.output.dense")
    return norm(x, "layernorm")
