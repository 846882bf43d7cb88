"""Measures that the model computes what it should, and how fast. All parts print Markdown, and write it with --output.

python benchmarks/model.py inflation                      # inflated against 2D hidden states, family by family
python benchmarks/model.py precision --image stack.tif    # attention, compilation, bfloat16
python benchmarks/model.py slices --base-model vit-tiny-patch16-224    # several slices labelled in one pass
python benchmarks/model.py decoders                       # what the decoder's stem costs
"""

import inspect
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from basics import report
from outcome import OutputOption


app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)


@app.command()
def inflation(
    output: OutputOption = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of real 2D checkpoints, measured as well.")] = None,
) -> None:
    """Finds the largest difference between the inflated model's hidden states and the 2D model's.

    And tells, in words, what is refused.
    """
    from transformers import AutoConfig, AutoModel

    from neuron_vit3d import NeuronViT3DModel
    from neuron_vit3d.model.backbones import FAMILIES

    small = {"hidden_size": 384, "num_attention_heads": 6}
    families = {
        "ViT-B/16 (facebook/dino-vitb16's layout)": ("vit", {}, 160),
        "DeiT-S/16": ("deit", {**small, "intermediate_size": 1536}, 160),
        "DINOv2 ViT-S/14": ("dinov2", {**small, "image_size": 518, "patch_size": 14}, 196),
        "DINOv2 with registers, ViT-S/14": (
            "dinov2_with_registers",
            {**small, "image_size": 518, "patch_size": 14},
            196,
        ),
        "DINOv3 ViT-S/16": ("dinov3_vit", {**small, "intermediate_size": 1536, "num_register_tokens": 4}, 160),
        "BEiT-S/16": ("beit", {**small, "intermediate_size": 1536, "use_relative_position_bias": True}, 160),
        "ViT-MAE-S/16": ("vit_mae", {**small, "intermediate_size": 1536}, 160),
    }
    named = {family for family, _, _ in families.values()}
    families |= {family: (family, small, 160) for family in FAMILIES if family not in named}
    lines = [
        "| 2D model | inflation | tile at pre-training size | another tile |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, (family, changes, side)) in enumerate(families.items()):
            torch.manual_seed(0)
            folder = Path(temporary, str(number))
            model_2d = AutoModel.from_config(AutoConfig.for_model(family, **changes)).eval()
            model_2d.save_pretrained(folder)
            for mode in ("center", "average"):
                model = NeuronViT3DModel.from_pretrained_2d(folder, inflation=mode).eval()
                lines.append(difference_row(name, mode, model, model_2d, side))
        for folder in sorted(weights.iterdir() if weights else []):
            if (folder / "model.safetensors").exists():
                for dtype in (torch.float32, torch.float64):
                    model_2d = AutoModel.from_pretrained(folder, dtype=dtype).eval()
                    for mode in ("center", "average"):
                        model = NeuronViT3DModel.from_pretrained_2d(folder, inflation=mode, dtype=dtype).eval()
                        name = f"{folder.name}, real weights, {str(dtype).removeprefix('torch.')}"
                        side = 7 * model.config.patch_size
                        lines.append(difference_row(name, mode, model, model_2d, side))
        lines += ["", "(of N): the largest hidden state, where it is above 50; float32 keeps seven digits of it."]
        lines += ["", "What `from_pretrained_2d` says of other models:", ""]
        lines += [f"- {kind}: `{words}`" for kind, words in refusals(Path(temporary)).items()]
    report("model.py inflation", lines, output)


def difference_row(name: str, mode: str, model, model_2d, other_side: int) -> str:
    """A row of the table: the largest difference of any hidden state on a tile of either size."""
    cells = []
    for side in (model.config.image_size, other_side):
        generator = torch.Generator().manual_seed(side)
        block = torch.randn(1, 1, 5, side, side, generator=generator).to(model.dtype)
        if mode == "average":  # promises the 2D model's output where all slices are alike
            block = block[:, :, :1].expand(-1, -1, 5, -1, -1)
        with torch.inference_mode():
            ours = model(block, output_hidden_states=True)
            theirs = model_2d(
                block[:, :, 2].expand(-1, 3, -1, -1), output_hidden_states=True, **options_2d(model_2d, side)
            )
        pairs = zip(
            [*ours.hidden_states, ours.last_hidden_state],
            [*theirs.hidden_states, theirs.last_hidden_state],
            strict=True,
        )
        difference = max(float((a - b).abs().max()) for a, b in pairs)
        largest = max(float(state.abs().max()) for state in theirs.hidden_states)
        cells.append(
            f"{side} x {side}: {difference:.1e} (of {largest:.0f})"
            if largest > 50
            else f"{side} x {side}: {difference:.1e}"
        )
    return f"| {name} | {mode} | " + " | ".join(cells) + " |"


def options_2d(model_2d, side: int) -> dict:
    """What a 2D model must be told to look at a whole picture of this side."""
    accepts, options = inspect.signature(model_2d.forward).parameters, {}
    if "interpolate_pos_encoding" in accepts:
        options["interpolate_pos_encoding"] = True
    if "noise" in accepts:  # a masked autoencoder: it is to hide nothing and keep the order of the patches
        model_2d.config.mask_ratio = 0.0
        options["noise"] = torch.arange((side // model_2d.config.patch_size) ** 2, dtype=torch.float32)[None]
    return options


def refusals(folder: Path) -> dict[str, str]:
    """What is said of models that are no plain 2D vision transformers."""
    from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetModel, SwinConfig, SwinModel

    from neuron_vit3d import NeuronViT3DModel

    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = CLIPConfig(text_config={**tower, "vocab_size": 99}, vision_config={**tower, "image_size": 32})
    models = {
        "clip": CLIPModel(clip),
        "swin": SwinModel(SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2)),
        "resnet": ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])),
    }
    said = {}
    for kind, model in models.items():
        model.save_pretrained(folder / kind)
        try:
            NeuronViT3DModel.from_pretrained_2d(folder / kind)
        except ValueError as error:
            said[kind] = str(error).replace(f"{folder}/", "")
    return said


@app.command()
def precision(
    image: Annotated[Path, typer.Option(help="A real stack.")],
    output: OutputOption = None,
    model: str | None = None,
) -> None:
    """The same model by other ways of computing: attention, compilation, bfloat16."""
    from neuron_vit3d.evaluation.segmentation import overlap_scores
    from neuron_vit3d.inference import Segmenter, load_checkpoint, segment
    from neuron_vit3d.volumes import read_volume

    net, processor = load_checkpoint(model)
    net.eval()
    volume = read_volume(image)
    blocks = processor(volume.array)["pixel_values"]
    block = blocks[len(blocks) // 2 :][:4]
    logits = {}
    with torch.inference_mode():
        for attention in ("eager", "sdpa"):
            net.set_attn_implementation(attention)
            logits[attention] = net(block).logits
    with torch.no_grad():
        explained = torch._dynamo.explain(net.encoder)(block)
        torch._dynamo.reset()
        logits["compiled"] = torch.compile(net)(block).logits
    scores = {"float32": segment(volume, Segmenter(net, processor=processor, skip_background=False)).array}
    scores["bfloat16, autocast"] = segment(
        volume, Segmenter(net, processor=processor, dtype=torch.bfloat16, skip_background=False)
    ).array
    halved = Segmenter(model, processor=processor, skip_background=False)
    halved.model.to(torch.bfloat16)  # a Segmenter computes in float32, or by autocast
    scores["bfloat16, weights and all"] = segment(volume, halved).array
    lines = [
        "| the default checkpoint | |",
        "|---|---|",
        f"| eager against sdpa attention: largest difference of the logits | {largest(logits, 'eager', 'sdpa'):.1e} |",
        f"| compiled (inductor) against not: largest difference of the logits | "
        f"{largest(logits, 'compiled', 'sdpa'):.1e} |",
        f"| breaks in the encoder's compiled graph | {explained.graph_break_count} |",
    ]
    mask = scores["float32"] >= 0.5
    stack = image.parent.name if image.stem == "image" else image.stem
    for name in ("bfloat16, autocast", "bfloat16, weights and all"):
        dice = overlap_scores(scores[name] >= 0.5, mask)["dice"]
        lines.append(f"| {name}, against float32: Dice of the two masks of {stack} | {dice:.4f} |")
    report("model.py precision", lines, output)


def largest(logits: dict, one: str, other: str) -> float:
    return float((logits[one] - logits[other]).abs().max())


@app.command()
def slices(
    base_model: Annotated[str, typer.Option(help="2D vision transformer.")],
    output: OutputOption = None,
    rounds: int = 3,
) -> None:
    """Seconds to segment a volume when one pass labels 1, 3 or 5 slices, apart or overlapping; over those with 1."""
    import time

    import numpy as np

    from neuron_vit3d import NeuronViT3DForSegmentation
    from neuron_vit3d.inference import Segmenter, segment
    from neuron_vit3d.volumes import Volume

    volume = Volume(np.random.default_rng(0).integers(0, 255, (45, 384, 384), dtype=np.uint8))
    ways = {"1": (1, 0), "3": (3, 0), "3, averaged": (3, 2), "5": (5, 0), "5, averaged": (5, 4)}
    segmenters = {}
    for name, (labelled, overlap) in ways.items():
        model = NeuronViT3DForSegmentation.from_pretrained_2d(
            base_model, num_output_slices=labelled, dtype=torch.float32
        )
        segmenters[name] = Segmenter(
            model, tile_size=192, tile_overlap=32, slice_overlap=overlap, skip_background=False
        )
    seconds = {name: [] for name in ways}
    for _ in range(rounds):  # by turns, so that whatever else the machine does falls on all
        for name, segmenter in segmenters.items():
            started = time.perf_counter()
            segment(volume, segmenter)
            seconds[name].append(time.perf_counter() - started)
    lines = [
        f"{Path(base_model).name}, blocks of 5 slices, a volume of {' x '.join(map(str, volume.shape))}, float32.",
        "",
        f"| slices labelled in one pass | seconds over those with 1, median of {rounds} ratios |",
        "|---|---|",
    ]
    for name in ways:
        ratio = np.median(np.array(seconds[name]) / np.array(seconds["1"]))
        lines.append(f"| {name} | {ratio:.2f} |")
    report("model.py slices", lines, output)


@app.command()
def decoders(output: OutputOption = None, rounds: int = 9) -> None:
    """The decoder's time over the encoder's, by the width of its stem, for a large and a small encoder."""
    import time

    import numpy as np
    from transformers import ViTConfig

    from neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation

    encoders = {
        "ViT-B/16": ViTConfig(),
        "ViT-Ti/16": ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768),
    }
    stems = {"8, 16, 32": (8, 16, 32), "16, 32, 64": (16, 32, 64), "none": ()}
    models = {
        (encoder, stem): NeuronViT3DForSegmentation(NeuronViT3DConfig(backbone_config=config, stem_sizes=sizes)).eval()
        for encoder, config in encoders.items()
        for stem, sizes in stems.items()
    }
    blocks = torch.randn(8, 1, 5, 224, 224)
    lines = [
        f"Batches of 8 blocks of 5 slices of 224 x 224, random weights; medians of {rounds} ratios.",
        "",
        "| encoder | computed in | stem | decoder's time over the encoder's |",
        "|---|---|---|---|",
    ]
    for dtype in (torch.float32, torch.bfloat16):
        ratios = {key: [] for key in models}
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            for _ in range(rounds + 1):  # by turns, so that whatever else the machine does falls on all
                for key, model in models.items():
                    started = time.perf_counter()
                    states = model.encoder(blocks, output_hidden_states=True).hidden_states
                    encoded = time.perf_counter()
                    model.decoder(model.encoder.feature_maps(states, blocks), blocks)
                    ratios[key].append((time.perf_counter() - encoded) / (encoded - started))
        for (encoder, stem), values in ratios.items():
            dtype_name = str(dtype).removeprefix("torch.")
            lines.append(f"| {encoder} | {dtype_name} | {stem} | {np.median(values[1:]):.2f} |")
    report("model.py decoders", lines, output)


if __name__ == "__main__":
    app()
