"""The decoder's parts: what they compute in evaluation is what their layers say."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuron_vit3d.model.backbones import Level
from neuron_vit3d.model.decoder import (
    ConvBlock,
    FeatureLevel,
    NeuronViT3DDecoder,
    Stem,
    unfolding_scales,
    without_low_scores,
)
from neuron_vit3d.model.image_processing_neuron_vit3d import scores_from_logits
from support.tiny_models import tiny_block, tiny_model


def block_of(channels: list[int], *, stride: int = 1, seed: int = 0) -> ConvBlock:
    """A block in evaluation mode whose batch norm has seen something."""
    torch.manual_seed(seed)
    block = ConvBlock(sum(channels), 3, stride)
    norm = block[1]
    for values in (norm.weight.data, norm.bias.data, norm.running_mean):
        values.normal_()
    norm.running_var.uniform_(0.1, 3)
    return block.eval()


def layer_by_layer(block: ConvBlock, *maps: torch.Tensor) -> torch.Tensor:
    return nn.Sequential.forward(block, torch.cat(maps, dim=1))


@given(
    channels=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    stride=st.sampled_from([1, 2]),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    seed=st.integers(0, 9),
)
def test_in_evaluation_a_block_computes_what_its_layers_do_one_after_the_other(channels, stride, height, width, seed):
    block = block_of(channels, stride=stride, seed=seed)
    maps = [torch.randn(2, count, height, width) for count in channels]
    torch.testing.assert_close(block(*maps), layer_by_layer(block, *maps), atol=1e-4, rtol=1e-4)


def test_in_training_a_block_learns_the_statistics_of_its_maps():
    block = block_of([2, 1]).train()
    before = block[1].running_mean.clone()
    maps = [torch.randn(2, 2, 5, 5), torch.randn(2, 1, 5, 5)]
    out = block(*maps)
    assert not torch.equal(block[1].running_mean, before)
    torch.testing.assert_close(out, layer_by_layer(block, *maps))


def test_gradients_are_those_of_the_layers():
    block = block_of([2, 3])
    maps = [torch.randn(2, 2, 5, 5, requires_grad=True), torch.randn(2, 3, 5, 5, requires_grad=True)]
    wanted = [*block.parameters(), *maps]
    found = [
        torch.autograd.grad(run(*maps).square().sum(), wanted)
        for run in (block, lambda *maps: layer_by_layer(block, *maps))
    ]
    assert len(found[0]) == 5
    for folded, layers in zip(*found, strict=True):
        torch.testing.assert_close(folded, layers, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_as_the_layers_are(dtype):
    block, maps = block_of([4, 4]), [torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)]
    exact = block(*maps)
    block.to(dtype)
    maps = [part.to(dtype) for part in maps]
    ours, layers = ((run.float() - exact).abs().mean() for run in (block(*maps), layer_by_layer(block, *maps)))
    assert ours < 2 * layers + 1e-4


def test_a_layer_that_something_hangs_on_is_called_itself():
    block, maps = block_of([2, 3]), [torch.randn(2, 2, 5, 5), torch.randn(2, 3, 5, 5)]
    before = block(*maps)
    handle = block[1].register_forward_hook(lambda layer, inputs, output: output + 1)
    torch.testing.assert_close(block(*maps), layer_by_layer(block, *maps))
    assert not torch.allclose(block(*maps), before)
    handle.remove()
    assert torch.equal(block(*maps), before)

    class Adapted(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    block[0].__class__ = Adapted
    torch.testing.assert_close(block(*maps), layer_by_layer(block, *maps))
    assert not torch.allclose(block(*maps), before)


@pytest.mark.parametrize("stem_sizes", [[4, 8, 8], []])
def test_maps_lie_channels_last_all_the_way(stem_sizes, monkeypatch):
    model, lie_so = tiny_model(stem_sizes=stem_sizes), []
    forward = ConvBlock.forward

    def look(block, *maps):
        out = forward(block, *maps)
        lie_so.extend(one.is_contiguous(memory_format=torch.channels_last) for one in (*maps, out))
        return out

    monkeypatch.setattr(ConvBlock, "forward", look)
    with torch.no_grad():
        model(tiny_block())
    assert lie_so and all(lie_so)


def test_the_stem_halves_its_maps():
    maps = Stem(3, [4, 4, 8]).eval()(torch.randn(2, 3, 16, 16))
    assert [tuple(one.shape) for one in maps] == [(2, 4, 16, 16), (2, 4, 8, 8), (2, 8, 4, 4)]


@pytest.mark.parametrize("stem_sizes", [[4, 8, 8], []])
def test_the_whole_decoder_computes_in_evaluation_what_its_layers_do(stem_sizes, monkeypatch):
    model, block = tiny_model(stem_sizes=stem_sizes), tiny_block(batch=2)
    with torch.no_grad():
        folded = model(block).logits
        monkeypatch.setattr(ConvBlock, "forward", layer_by_layer)
        torch.testing.assert_close(folded, model(block).logits, atol=1e-4, rtol=1e-4)


# -- feature maps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strides", "scales"),
    [
        ((16,) * 4, [4, 2, 1, 1]),
        ((14,) * 4, [4, 2, 1, 1]),
        ((4, 8, 16, 32), [1, 1, 1, 1]),
        ((8, 8, 16, 16), [2, 1, 1, 1]),
    ],
)
def test_maps_are_unfolded_as_far_as_the_pyramid_is_finer_than_they_are(strides, scales):
    assert unfolding_scales(tuple(Level(8, stride) for stride in strides)) == scales


def test_a_map_is_read_alike_however_it_lies_in_memory():
    level, feature_map = FeatureLevel(6, 4, 2).eval(), torch.randn(2, 6, 3, 5)
    torch.testing.assert_close(level(feature_map.contiguous(memory_format=torch.channels_last)), level(feature_map))


@pytest.mark.parametrize("stem_sizes", [[4, 8, 8], []])
def test_one_decoder_reads_the_maps_of_a_hierarchy_too(stem_sizes):
    levels = tuple(Level(channels, stride) for channels, stride in ((4, 4), (8, 8), (12, 16), (16, 32)))
    sizes = {"decoder_hidden_size": 8, "stem_sizes": stem_sizes, "num_labels": 2, "num_output_slices": 1}
    config = SimpleNamespace(feature_levels=levels, patch_size=32, num_channels=1, num_slices=3, **sizes)
    maps = [torch.randn(2, level.channels, 64 // level.stride, 96 // level.stride) for level in levels]
    logits = NeuronViT3DDecoder(config).eval()(maps, tiny_block(height=60, width=90))  # padded to 64 x 96
    assert logits.shape == (2, 2, 1, 60, 90) and logits.isfinite().all()


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_scores_are_cut_to_exactly_zero_and_others_stay(labels, dtype):
    logits = torch.randn(2, labels, 1, 8, 8, generator=torch.Generator().manual_seed(0)).mul(3).to(dtype)
    before, after = scores_from_logits(logits), scores_from_logits(without_low_scores(logits, 0.05))
    low = after == 0
    assert 0 < low.sum() < low.numel()
    assert (before[low] < 0.051).all() and (before[~low] > 0.049).all()
    assert torch.equal(before[~low], after[~low])
