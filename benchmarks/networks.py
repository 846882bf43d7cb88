"""Two commands of segmenting.py: the model beside MONAI's networks, and where its time goes.

Networks have random weights: speed does not depend on them.
"""

import time
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import numpy as np
import torch
import typer
from basics import multiplications, report
from outcome import OutputOption

from neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation, Segmenter, Volume, segment, synthetic_neuron


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PEERS_AT_ONCE = (1, 4)  # patches, whichever is faster for the network


def peers(
    output: OutputOption = None,
    shape: tuple[int, int, int] = (128, 256, 256),
    patch: int = 96,
    dtypes: Annotated[list[str] | None, typer.Option("--dtype", help="float32, bfloat16.")] = None,
) -> None:
    """Measures the voxels per second of one volume: ours, and those of MONAI's networks.

    MONAI's go by its sliding-window inferer, which overlaps by 0.5 as UNETR's and nnU-Net's papers do.
    """
    rng = np.random.default_rng(0)
    volume = Volume(rng.integers(0, 256, shape, np.uint8))
    lines = [
        f"A volume of {' x '.join(map(str, shape))}; peers in patches of {patch}^3 at an overlap of 0.5, "
        f"{' or '.join(map(str, PEERS_AT_ONCE))} at once, whichever is faster; ours in tiles.",
        "",
        "| | computed in | voxels per second | over UNETR | over SwinUNETR | over DynUNet |",
        "|---|---|---|---|---|---|",
    ]
    for dtype in dtypes or list(DTYPES):
        rates = {name: rate_of_peer(network, volume, patch, DTYPES[dtype]) for name, network in monai_networks(patch)}
        theirs = dict(rates)
        for name, segmenter in ours(DTYPES[dtype]):
            rates[name] = rate(lambda segmenter=segmenter: segment(volume, segmenter), volume.array.size)
        for name, value in rates.items():
            over = " | ".join(f"{value / other:.1f}" for other in theirs.values())
            lines.append(f"| {name} | {dtype} | {value:,.0f} | {over} |")
    report("segmenting.py peers", lines, output)


def ours(dtype: torch.dtype):
    """ViT-B with five slices labelled a pass and with one, and the embedded default."""
    for outputs in (5, 1):
        config = NeuronViT3DConfig(num_slices=5, num_output_slices=outputs)
        model = NeuronViT3DForSegmentation(config).eval()
        yield f"ViT-B, 5 slices, {outputs} labelled a pass", Segmenter(model, dtype=dtype, skip_background=False)
    yield "the embedded default, 1 labelled a pass", Segmenter(dtype=dtype, skip_background=False)


def monai_networks(patch: int):
    """(name, network) of the peers, for grey volumes and two labels."""
    from monai.networks.nets import UNETR, DynUNet, SwinUNETR

    yield "UNETR (ViT-B)", UNETR(1, 2, img_size=(patch,) * 3)  # 12 layers, 768 wide, patches of 16^3
    yield "SwinUNETR (48)", SwinUNETR(1, 2, feature_size=48)
    kernels, strides = [3] * 5, [1, 2, 2, 2, 2]
    yield "DynUNet", DynUNet(3, 1, 2, kernels, strides, strides[1:], filters=[32, 64, 128, 256, 320])


def rate_of_peer(network: torch.nn.Module, volume: Volume, patch: int, dtype: torch.dtype) -> float:
    from monai.inferers import sliding_window_inference

    image = torch.from_numpy(volume.array.astype(np.float32))[None, None] / 255
    network.eval().to(DEVICE)

    def run(image: torch.Tensor, at_once: int) -> None:
        with torch.inference_mode(), torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
            sliding_window_inference(
                image.to(DEVICE), (patch,) * 3, at_once, network, overlap=0.5, mode="gaussian"
            ).cpu()

    few = image[..., :patch, :patch, : patch * 5 // 2]  # four patches
    run(few, 1)
    at_once = max(PEERS_AT_ONCE, key=lambda count: rate(partial(run, few, count), few.numel()))
    return rate(partial(run, image, at_once), image.numel())


def rate(run, voxels: int) -> float:
    """Voxels a second. On a GPU of the second run: the first one loads and chooses kernels."""
    for _ in range(2 if DEVICE.type == "cuda" else 1):
        started = time.monotonic()
        run()
        seconds = time.monotonic() - started
    return voxels / seconds


def wait() -> float:
    """The time at which the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()


def share(output: OutputOption = None, shape: tuple[int, int, int] = (32, 384, 384)) -> None:
    """Measures the transformer's share of the time, and its products against those of a large matrix product."""
    volume = synthetic_neuron(shape, seed=5).volume
    lines = [
        "| | computed in | time in the transformer | in the model | of the machine's matrix rate |",
        "|---|---|---|---|---|",
    ]
    for name, dtype in DTYPES.items():
        peak = matrix_rate(dtype)
        for what, segmenter in ours(dtype):
            if DEVICE.type == "cuda":
                segment(volume, segmenter)  # the first run loads and chooses kernels
            encoder, whole = Clock(segmenter.model.encoder), Clock(segmenter.model)
            with encoder.running(), whole.running():
                started = wait()
                segment(volume, segmenter)
                seconds = wait() - started
            block = torch.zeros(1, 1, segmenter.processor.num_slices, *segmenter.grid(shape).tile, device=DEVICE)
            done = multiplications(segmenter.model, block) * whole.blocks
            lines.append(
                f"| {what} | {name} | {encoder.seconds / seconds:.0%} | {whole.seconds / seconds:.0%} | "
                f"{done / seconds / peak:.0%} |"
            )
    report("segmenting.py share", lines, output)


class Clock:
    """How long a module takes, and how many blocks it is given."""

    def __init__(self, module: torch.nn.Module):
        self.module, self.seconds, self.blocks = module, 0.0, 0

    @contextmanager
    def running(self):
        def before(*_) -> None:
            self.started = wait()

        def after(_, inputs, *rest) -> None:
            self.seconds += wait() - self.started
            self.blocks += len(inputs[0]) if inputs else 0

        hooks = self.module.register_forward_pre_hook(before), self.module.register_forward_hook(after)
        yield self
        for hook in hooks:
            hook.remove()


def matrix_rate(dtype: torch.dtype) -> float:
    """Multiplications a second of the best of several products of two square matrices."""
    side = 8192 if DEVICE.type == "cuda" else 2048
    first, second = torch.randn(2, side, side, device=DEVICE).to(dtype)
    best = float("inf")
    for _ in range(6):
        started = wait()
        first @ second
        best = min(best, wait() - started)
    return side**3 / best
