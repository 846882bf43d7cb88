"""neuron-vit3d prepare, and scripts/prepare_bigneuron.py: makes a dataset to train on of images with trees."""

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..progress import Progress
from .options import JsonOption, example
from .output import Output


@example("neuron-vit3d prepare stacks prepared --num-proc 2")
def prepare(
    root: Annotated[Path, typer.Argument(help="Folder or zip archive with images and SWC files.")],
    output: Annotated[Path, typer.Argument(help="Folder to write to.")],
    num_proc: Annotated[int, typer.Option(min=1, help="Processes; each has one volume in memory.")] = 1,
    shard: Annotated[str, typer.Option(help="i/n: only the i-th of n shares (from 0), for n machines.")] = "0/1",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first pair that cannot be used.")] = False,
    table: Annotated[Path | None, typer.Option(help="CSV of origins: image, species, lab, xy_um, z_um ...")] = None,
    channel: Annotated[int | None, typer.Option(help="Channel of images with several. Default: the best fit.")] = None,
    align: Annotated[bool, typer.Option(help="Check, and repair, how each tree lies on its image.")] = True,
    radius: Annotated[str, typer.Option(help="Radii: given (by the SWC) or image (measured there).")] = "given",
    min_radius: Annotated[float, typer.Option(help="Smaller radii are raised to it, voxels.")] = 1.0,
    max_radius: Annotated[float, typer.Option(help="Larger radii are cut to it, voxels; 0: none are.")] = 0.0,
    edge_band: Annotated[float, typer.Option(help="Ignore voxels so near to a tube's surface, voxels.")] = 0.0,
    ignore_untraced: Annotated[bool, typer.Option(help="Ignore signal that no tree explains.")] = False,
    block_shape: Annotated[tuple[int, int, int], typer.Option(help="z y x of the rows of `blocks`.")] = (9, 288, 288),
    background: Annotated[float, typer.Option(help="Share of the blocks without a neuron.")] = 0.3,
    split_by: Annotated[str, typer.Option(help="neuron or lab.")] = "neuron",
    fractions: Annotated[tuple[float, float, float], typer.Option(help="Train, validation, test.")] = (0.8, 0.1, 0.1),
    seed: Annotated[int, typer.Option(help="Of the split and the choice of blocks.")] = 0,
    licence: Annotated[str | None, typer.Option(help="Of images whose licence the table does not tell.")] = None,
    scratch: Annotated[Path | None, typer.Option(help="Folder for what is read out of an archive.")] = None,
    push_to_hub: Annotated[str | None, typer.Option(help="Publish as name/repository.")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private; refuse a public one.")
    ] = False,
    title: Annotated[str, typer.Option(help="Of the dataset's card.")] = "Traced neurons",
    hub_license: Annotated[str, typer.Option(help="Of the whole, as the Hub spells it.")] = "other",
    json: JsonOption = False,
) -> None:
    """Prepare images with SWC files, as BigNeuron's Gold166, as a `datasets` dataset to train on; publish it if asked
    to.

    Run it again to continue after an interruption, or to add neurons: what is done is kept. OUTPUT/report.csv and
    OUTPUT/report-01.png ... tell what became of every pair.
    """
    from ..data.bigneuron import PreparationOptions
    from ..data.bigneuron import prepare as prepare_dataset
    from ..data.dataset_files import part_files
    from ..data.labels import LabelPolicy
    from .input import parse_shard

    try:
        labels = LabelPolicy(
            radius=radius,
            min_radius=min_radius,
            max_radius=max_radius or None,
            edge_band=edge_band,
            ignore_untraced=ignore_untraced,
        )
        options = PreparationOptions(
            channel=channel,
            labels=labels,
            check_alignment=align,
            block_shape=block_shape,
            background=background,
            split_by=split_by,
            fractions=fractions,
            seed=seed,
            licence=licence,
        )
        if push_to_hub:
            from ..hub import check_can_publish

            check_can_publish(push_to_hub, license=hub_license, private=private)  # before hours of work
        with Progress("prepare", None, unit="neuron") as bar:
            reports = prepare_dataset(
                root,
                output,
                options=options,
                table=table,
                num_proc=num_proc,
                shard=parse_shard(shard),
                strict=strict,
                scratch=scratch,
                progress=partial(show, bar),
            )
        count = Counter(report.status for report in reports)
        out, report = Output(json), output / "report.csv"
        out.tell(
            f"{count['used']} used, {count['repaired']} repaired, {count['left out']} left out: {report}",
            used=count["used"],
            repaired=count["repaired"],
            left_out=count["left out"],
            report=report,
        )
        if not count["used"] + count["repaired"]:
            raise ValueError(f"no pair could be used: {report} says why")
        parts = {part: len(files) for part, files in part_files(output, "volumes").items()}
        out.tell(", ".join(f"{part} {number}" for part, number in parts.items()), neurons=parts)
        if not parts["train"]:
            print("no neuron is in train: choose another --seed, or other --fractions", file=sys.stderr)
        if push_to_hub:
            address = push(output, push_to_hub, title, hub_license, private, num_proc)
            out.tell(address, address=address)
        out.end()
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; the same command continues") from error


def show(bar: Progress, report, done: int, total: int) -> None:
    """Counts a neuron, and tells at once of one that is left out or repaired."""
    bar.total = total
    bar.update(done - bar.done)
    if report.status != "used":
        bar.write(f"{report.status}: {report.image}: {report.note}")


def push(output: Path, repo_id: str, title: str, license: str, private: bool, num_proc: int) -> str:
    """Publishes what was prepared; returns the address."""
    from ..data.bigneuron import load_bigneuron
    from ..hub import publish_dataset

    picture = output / "report-01.png"
    return publish_dataset(
        {config: load_bigneuron(output, config) for config in ("volumes", "blocks")},
        repo_id,
        title=title,
        license=license,
        picture=picture if picture.exists() else None,
        caption="Maximum projections with the trees: used (green), repaired (orange), left out (red).",
        needs="The images and SWC files, and this package.",
        commands=f"neuron-vit3d prepare <images> prepared --push-to-hub {repo_id}",
        private=private,
    )
