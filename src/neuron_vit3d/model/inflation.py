"""Inflation: turns the weights of a 2D vision transformer into those of a 3D one.

A Conv3d patch embedding whose kernel spans all D slices of a block is the same linear map as a Conv2d with the D
slices as channels. So one tensor changes, and every other weight of the 2D model is used as it is:

    2D kernel  (hidden, 3, patch, patch)  ->  3D kernel  (hidden, channels, D, patch, patch)  stored as
                                              Conv2d weight  (hidden, channels * D, patch, patch)

"average": every slice gets w / D. "center": the center slice gets w, the others zero. (Cheng et al. 2024,
arXiv 2405.02686, section 2; the two modes are from Zhang et al. 2022, "Adapting Pre-trained Vision Transformers from
2D to 3D through Weight Inflation".)
"""

from collections.abc import Mapping

import torch

from .backbones import Family


INFLATIONS = ("center", "average")


def inflate_state_dict(
    state_dict: Mapping[str, torch.Tensor], family: Family, *, num_slices: int, num_channels: int, inflation: str
) -> dict[str, torch.Tensor]:
    """Turns the state dict of a 2D model into that of the same model over blocks of slices.

    Args:
        state_dict: weights of a 2D model, with keys as in transformers' base models (no `vit.` prefix).
        family: family of the 2D model: it tells which weights read the picture, and which are left out.
        num_slices: slices in a block.
        num_channels: channels of the microscopy image.
        inflation: "center" or "average".

    Returns:
        A new dict of new tensors: nothing shares memory with the 2D model. Parts that segmentation does not need are
        left out.

    Raises:
        ValueError: a kernel of the family is missing.
    """
    left_out = tuple(f"{part}." for part in family.left_out)
    inflated = {key: value.clone() for key, value in state_dict.items() if not key.startswith(left_out)}
    for name in kernel_names(family):
        if name not in inflated:
            raise ValueError(f"expected the weights of a {family.model_type}, found none named {name}")
        inflated[name] = inflate_patch_embedding(
            inflated[name], num_slices=num_slices, num_channels=num_channels, inflation=inflation
        ).flatten(1, 2)
    return inflated


def kernel_names(family: Family) -> list[str]:
    """Returns the keys of the kernels that are inflated."""
    return [f"{kernel}.weight" for kernel in family.kernels]


def inflate_patch_embedding(
    weight: torch.Tensor, *, num_slices: int, num_channels: int = 1, inflation: str = "center"
) -> torch.Tensor:
    """Turns a 2D kernel into a 3D one.

    (hidden, in_channels, patch, patch) -> (hidden, num_channels, num_slices, patch, patch).

    The colours of a natural picture mean nothing in microscopy: unless `num_channels` equals the 2D model's number,
    the colour kernels are summed (the response to a grey picture) and divided equally among the image's channels.
    """
    if weight.ndim != 4:
        raise ValueError(f"expected a 2D kernel (hidden, channels, patch, patch), got shape {tuple(weight.shape)}")
    if inflation not in INFLATIONS:
        raise ValueError(f"inflation must be one of {', '.join(INFLATIONS)}; got {inflation!r}")
    if weight.shape[1] != num_channels:
        grey = weight.float().sum(1, keepdim=True) / num_channels
        weight = grey.to(weight.dtype).expand(-1, num_channels, -1, -1)
    if inflation == "average":
        return (weight / num_slices).unsqueeze(2).repeat(1, 1, num_slices, 1, 1)
    inflated = weight.new_zeros(weight.shape[0], num_channels, num_slices, *weight.shape[2:])
    inflated[:, :, num_slices // 2] = weight
    return inflated
