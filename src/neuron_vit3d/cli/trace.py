"""neuron-vit3d trace: makes trees of a mask or of scores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..tracing.options import TraceOptions
from .input import check_file, check_type, check_units, image_name, parse_label, parse_voxel_size
from .many import Input, find_scores, is_one
from .neurons import Neurons
from .options import (
    ChannelOption,
    ImageNumberOption,
    JsonOption,
    NeuronsOption,
    QuietOption,
    RootOption,
    ScaleOption,
    StrictOption,
    TypeOption,
    UnitsOption,
    VoxelSizeOption,
    example,
    takes,
)
from .output import Output, branches_of, described, note, numbered, remove_other_trees, write_trees


ALL = "all"  # of the labels, each


@takes(tracing=TraceOptions)
@example("neuron-vit3d trace out/image.scores.tif -o tree.swc --bridge-distance 8")
def trace(
    masks: Annotated[
        list[str],
        typer.Argument(
            metavar="MASK",
            help="Mask, labels or scores (floats in [0, 1]); folders of them; patterns as '*.scores.tif'.",
            show_default=False,
        ),
    ],
    tracing: TraceOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="SWC file, of many a folder. Default: beside the input, of many here."),
    ] = None,
    channel: ChannelOption = None,
    image: ImageNumberOption = None,
    voxel_size: VoxelSizeOption = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Of labels: the neuron has this value; all: each is a neuron, and N goes to NAME_N.swc.",
            metavar="N|all",
            show_default=False,
        ),
    ] = None,
    scale: ScaleOption = None,
    units: UnitsOption = "voxels",
    node_type: TypeOption = None,
    root: RootOption = None,
    neurons: NeuronsOption = 1,
    strict: StrictOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Trace a mask or scores to an SWC file; several neurons to NAME_1.swc, NAME_2.swc ...

    Whole numbers with one value beside 0 are a mask, with a few they are labels, with many probabilities.
    Beside each, NAME.branches.csv has a row for each branch, with its confidence.

    For many inputs, folders and patterns, NAME.swc and summary.csv are written to the output folder. Of a folder the
    scores are traced, or the masks if it has no scores. The same command goes on where it was interrupted.
    """
    size = parse_voxel_size(voxel_size)
    try:
        asked = Neurons.parsed(root, neurons, tracing)
    except ValueError as error:
        raise ValueError(f"{masks[0]}: {error}" if root and len(masks) == 1 and neurons == 1 else error) from error
    check_units(units)
    check_type(node_type)
    settings = Settings(
        tracing, asked, channel, size, parse_label(label, or_word=ALL), scale, label == ALL, image, units, node_type
    )
    if label == ALL and (root or neurons > 1):
        raise ValueError(
            "--label all: is as many neurons as there are labels; cannot be used with --root or --neurons"
        )
    if is_one(masks):
        mask, out = Path(masks[0]), Output(json)
        trace_mask(mask, output, settings, out)
        out.end()
        return
    if label == ALL:
        raise ValueError("--label all: is for one file")
    if root:
        raise ValueError("--root: is a place in one volume, and cannot be used for many")
    folder = output or Path(".")
    if folder.suffix.lower() == ".swc" and not folder.is_dir():
        raise ValueError(f"--output: expected a folder for the trees of many, got {folder}")
    from .batch import Batch

    work = _Tracing(folder, settings)
    Batch("trace", find_scores(masks), folder, as_json=json, quiet=quiet, strict=strict).run(work)


@dataclass(frozen=True)
class Settings:
    """What the options of `trace` say of every volume; what decides the trees stands here, whoever adds to it."""

    tracing: TraceOptions
    neurons: Neurons
    channel: int | None = None
    voxel_size: tuple[float, float, float] | None = None
    label: int | None = None
    scale: float | None = None
    each_label: bool = False
    image: int | None = None
    units: str = "voxels"
    node_type: str | None = None


def trace_mask(mask: Path, output: Path | None, settings: Settings, out: Output, *, unasked: bool = False) -> None:
    """Traces one mask or scores.

    Args:
        mask: the file or folder.
        output: SWC file to write; None: beside the input.
        settings: how.
        out: is told what was written.
        unasked: nobody typed the name of the output; it follows from the input's.
    """
    check_file(mask)
    from ..evaluation.comparison import is_tree

    if is_tree(mask):
        raise ValueError(f"{mask}: expected a mask or scores to trace, found a tree")
    unasked = unasked or output is None
    output = mask.with_name(image_name(mask) + ".swc") if output is None else output
    from ..volumes import open_volume

    if not settings.each_label:
        settings.neurons.check_outputs(output, mask, unasked=unasked)
    try:
        with open_volume(mask, settings.channel, settings.image) as reader:
            trees, outputs, highest = _traced(mask, reader, output, settings, unasked=unasked)
            size = settings.voxel_size or reader.voxel_size
    except ValueError as error:
        raise ValueError(f"{mask}: {str(error).removeprefix(f'{mask}: ')}") from error
    _, figures = write_trees(trees, outputs, mask, size, settings.units, settings.node_type)
    out.figures["trees"] = []
    for one in figures:
        out.tell(described(one), trees=[*out.figures["trees"], one])
    if unasked:
        remove_other_trees(mask, output, highest)


def _traced(mask: Path, reader, output: Path, settings: Settings, *, unasked: bool) -> tuple[list, list[Path], int]:
    """The trees of a volume, where they go, and the highest number of these."""
    from ..tracing import TraceError, trace_neurons
    from ..volumes import labels_of

    neurons, size = settings.neurons, settings.voxel_size or reader.voxel_size
    if not settings.each_label:
        label, scale = settings.label, settings.scale
        trees = trace_neurons(reader, neurons.asked(), settings.tracing, voxel_size=size, label=label, scale=scale)
        return trees, neurons.outputs(output), neurons.count
    trees, outputs, numbers = [], [], labels_of(reader)
    for number in numbers:
        path = numbered(output, number)
        neurons.check_outputs(path, mask, unasked=unasked)
        try:
            trees += trace_neurons(reader, 1, settings.tracing, voxel_size=size, label=number)
            outputs.append(path)
        except TraceError as error:
            note(f"{mask}: label {number} is left out: {error}", is_warning=True)
    if not trees:
        raise TraceError("nothing to trace: none of its labels became a tree")
    return trees, outputs, numbers[-1]


@dataclass
class _Tracing:
    """What a batch does."""

    folder: Path
    how: Settings

    @property
    def settings(self) -> str:
        return str(self.how)

    def results(self, input: Input) -> list[Path]:
        trees = self.how.neurons.outputs(self.folder / f"{input.name}.swc")
        return [file for path in trees for file in (path, branches_of(path))]

    def do(self, input: Input, out: Output, progress: Callable[[float], None]) -> None:
        trace_mask(input.path, self.folder / f"{input.name}.swc", self.how, out, unasked=True)
