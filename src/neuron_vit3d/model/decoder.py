"""The decoder: turns feature maps of four depths and a small convolutional stem into logits at full resolution."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from .backbones import Level
from .configuration_neuron_vit3d import NeuronViT3DConfig


# Resolution of the pyramid's four levels relative to the deepest map, shallow to deep.
_FLOORS = (4, 2, 1, 1)


class NeuronViT3DDecoder(nn.Module):
    """Upsamples feature maps of four depths in a pyramid, and joins them with a full-resolution stem, if there is one.

    The pyramid starts with the deepest map, and the shallower ones, which carry finer detail, are added on the way up.
    Those of a plain ViT, which all have one cell per patch, are unfolded to 1, 2 and 4 cells per patch side; maps that
    are already finer stay as they are. At about a quarter of the resolution the stem's maps of strides 4, 2 and 1
    follow; without a stem the last steps are plain interpolation.
    """

    def __init__(self, config: NeuronViT3DConfig):
        super().__init__()
        size = config.decoder_hidden_size
        self.config = config
        self.levels = nn.ModuleList(
            FeatureLevel(level.channels, size, scale)
            for level, scale in zip(config.feature_levels, unfolding_scales(config.feature_levels), strict=True)
        )
        self.fuse = nn.ModuleList(ConvBlock(size, size) for _ in range(3))
        self.stem = Stem(config.num_channels * config.num_slices, config.stem_sizes) if config.stem_sizes else None
        skips = list(config.stem_sizes)[::-1] or [0, 0, 0]
        outs = skips if config.stem_sizes else [size, size // 2, size // 4]
        ins = [size, *outs[:-1]]
        self.join = nn.ModuleList(
            ConvBlock(below + skip, out) for below, skip, out in zip(ins, skips, outs, strict=True)
        )
        self.classifier = Classifier(outs[-1], config.num_labels, config.num_output_slices)

    def forward(self, feature_maps: list[torch.Tensor], pixel_values: torch.Tensor) -> torch.Tensor:
        """Computes logits.

        Args:
            feature_maps: four maps, shallow to deep, each (batch, channels, rows, columns) as `config.feature_levels`
                says.
            pixel_values: the block that the maps were computed from, (batch, channels, slices, height, width).

        Returns:
            (batch, num_labels, num_output_slices, height, width).
        """
        height, width = pixel_values.shape[-2:]
        x = self.levels[3](feature_maps[3])
        for level, fuse, feature_map in zip(self.levels[2::-1], self.fuse, feature_maps[2::-1], strict=True):
            skip = level(feature_map)
            x = fuse(F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False) + skip)
        images = pad_to_multiple(pixel_values.flatten(1, 2).to(x.dtype), self.config.patch_size)
        if self.stem is not None:
            skips = self.stem(images)[::-1]
            sizes = [skip.shape[-2:] for skip in skips]
        else:
            skips = [None, None, None]
            sizes = [[-(-side // stride) for side in images.shape[-2:]] for stride in (4, 2, 1)]
        for join, skip, size in zip(self.join, skips, sizes, strict=True):
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            x = join(x) if skip is None else join(x, skip)
        logits = self.classifier(x)[..., :height, :width]
        return logits.unflatten(1, (self.config.num_labels, self.config.num_output_slices))


def unfolding_scales(levels: tuple[Level, ...]) -> list[int]:
    """Returns the factors by which four maps, shallow to deep, are unfolded.

    >>> unfolding_scales((Level(384, 16),) * 4)  # a plain ViT
    [4, 2, 1, 1]
    >>> unfolding_scales(tuple(Level(96, stride) for stride in (4, 8, 16, 32)))  # hierarchical maps are fine enough
    [1, 1, 1, 1]
    """
    deepest = levels[-1].stride
    return [max(1, level.stride * floor // deepest) for level, floor in zip(levels, _FLOORS, strict=True)]


class FeatureLevel(nn.Module):
    """Map (batch, channels, rows, columns) -> map (batch, size, scale * rows, scale * columns).

    A linear map unfolds each cell to `scale` x `scale` cells, so that what a token knows about places inside its patch
    lies at these places.
    """

    def __init__(self, channels: int, size: int, scale: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.unfolded_size = size if scale == 1 else size // 2
        self.unfold = nn.Linear(channels, self.unfolded_size * scale**2)
        self.shuffle = nn.PixelShuffle(scale)
        self.project = nn.Conv2d(self.unfolded_size, size, kernel_size=1)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        cells = feature_map.flatten(2).transpose(1, 2)
        x = self.unfold(self.norm(cells)).transpose(1, 2).unflatten(2, feature_map.shape[2:])
        return self.project(channels_last(self.shuffle(x)))


class Stem(nn.Module):
    """Block as channels (batch, channels * slices, height, width) -> maps at strides 1, 2, 4.

    Neurites are 1 to 5 voxels wide, a patch 14 or 16: the stem keeps positions that a token cannot give exactly.
    """

    def __init__(self, in_channels: int, sizes: list[int] | tuple[int, ...]):
        super().__init__()
        self.stages = nn.ModuleList()
        for stride, size in zip((1, 2, 2), sizes, strict=True):
            self.stages.append(nn.Sequential(ConvBlock(in_channels, size, stride), ConvBlock(size, size)))
            in_channels = size

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        images = channels_last(images)
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps


class ConvBlock(nn.Sequential):
    """3 x 3 convolution, batch norm, GELU: for one map, or for several whose channels are concatenated.

    Batch norm, because at inference it does not depend on what else is in the tile: noise in an empty tile is not
    amplified to the contrast of a neurite.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.GELU(),
        )

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        """Takes maps (batch, channels, height, width) of one size, whose channels add up to `in_channels`."""
        convolution, norm, activation = self
        if norm.training or not self._is_plain(sum(part.shape[1] for part in maps)):
            return super().forward(torch.cat(maps, dim=1) if len(maps) > 1 else maps[0])
        # The same with fewer passes over large maps, which take longer than the multiplications. At inference batch
        # norm is a scale and a shift of each channel, so it is merged into the kernel; and a convolution is a sum over
        # its input's channels, so maps need not be concatenated.
        dtype = convolution.weight.dtype
        finer = torch.promote_types(dtype, torch.float32)
        scale = norm.weight * torch.rsqrt(norm.running_var.to(finer) + norm.eps)
        kernel = (convolution.weight * scale[:, None, None, None]).to(dtype)
        shift = (norm.bias - norm.running_mean * scale).to(dtype)
        how = {"stride": convolution.stride, "padding": convolution.padding}
        first, *others = zip(maps, kernel.split([part.shape[1] for part in maps], dim=1), strict=True)
        x = F.conv2d(*first, shift, **how)
        for part, its_kernel in others:
            x += F.conv2d(part, its_kernel, **how)
        return activation(x)

    def _is_plain(self, in_channels: int) -> bool:
        """Tells whether the layers are unchanged, and their weights are here.

        Adapters, hooks, and weights that are offloaded or sharded only work when each layer is called.
        """
        convolution, norm, _ = self
        return (
            type(convolution) is nn.Conv2d
            and type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm)
            and not any(layer._forward_hooks or layer._forward_pre_hooks for layer in self)
            and convolution.weight.shape[1:2] == (in_channels,)
            and not convolution.weight.is_meta
        )


class Classifier(nn.Conv2d):
    """The last layer, a 1 x 1 convolution: a logit for each label and slice."""

    def __init__(self, in_channels: int, num_labels: int, num_output_slices: int):
        super().__init__(in_channels, num_labels * num_output_slices, kernel_size=1)
        self.num_labels = num_labels

    @torch.no_grad()
    def begin_with_prior(self, foreground: float = 0.05) -> None:
        """Sets the bias so that the first predictions are the prior: few voxels are neuron.

        Lin et al. 2017, section 4.1, begin in the same way.

        With a first prediction of one half, little but the bias is learned for hundreds of steps.
        """
        bias = torch.zeros_like(self.bias)
        bias.view(self.num_labels, -1)[1:] = math.log(foreground / (1 - foreground))
        init.copy_(self.bias, bias)  # does not overwrite loaded weights


def channels_last(maps: torch.Tensor) -> torch.Tensor:
    """Returns the same maps with the channels of each cell together in memory.

    Convolutions of few channels are faster that way, and their results have the same layout.
    """
    return maps.contiguous(memory_format=torch.channels_last)


def pad_to_multiple(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pads images (batch, channels, height, width) until their sides are multiples, by repeating the border."""
    # The remainder of a negative number would be shorter, but not work in a compiled graph with variable sides.
    bottom, right = (-(-side // multiple) * multiple - side for side in images.shape[-2:])
    return F.pad(images, (0, right, 0, bottom), mode="replicate") if bottom or right else images


def without_low_scores(logits: torch.Tensor, lowest: float) -> torch.Tensor:
    """Makes scores below `lowest` exactly 0: there the logits of all labels but the background fall far below it.

    Args:
        logits: (batch, num_labels, ...).
        lowest: above 0.
    """
    background, others = logits[:, :1], logits[:, 1:]
    is_low = others.float().logsumexp(1, keepdim=True) - background.float() < math.log(lowest / (1 - lowest))
    # A difference whose sigmoid is 0 in float32, and which half precision can hold.
    return torch.cat([background, torch.where(is_low, background - 1e4, others)], dim=1)
