"""neuron-vit3d evaluate: compares trees and masks with those of a human."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .content import warn_of_mistake
from .input import (
    check_folder,
    check_target,
    check_units,
    find_images,
    is_folder_of_files,
    parse_label,
    parse_voxel_size,
)
from .options import LabelOption, ScaleOption, VoxelSizeOption, example


@example("neuron-vit3d evaluate out/image.swc image.gold.swc --picture compared.png")
def evaluate(
    predicted: Annotated[Path, typer.Argument(help="SWC file or mask, or a folder of them.", show_default=False)],
    gold: Annotated[Path, typer.Argument(help="Gold SWC file or mask, or a folder of them.", show_default=False)],
    threshold: Annotated[
        float | None, typer.Option(help="Distance in voxels within which trees agree. Default: 2.")
    ] = None,
    json_asked: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write, a row for each neuron.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG file of what agrees, is missed and is extra; of folders: a folder.")
    ] = None,
    ignore_lone_nodes: Annotated[
        bool, typer.Option("--ignore-lone-nodes", help="Leave out nodes without an edge, as Vaa3D does.")
    ] = False,
    label: LabelOption = None,
    scale: ScaleOption = None,
    voxel_size: VoxelSizeOption = None,
    swc_units: Annotated[
        str | None,
        typer.Option(
            help="Of gold trees: voxels, or um (micrometres). Default: as their header says, or else voxels.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image to draw the picture over; of folders: a folder.")] = None,
    image_number: Annotated[
        int | None, typer.Option(help="Where --image holds several images: this one, from 0.", show_default=False)
    ] = None,
) -> None:
    """Compare trees with gold trees, or masks with gold masks (or with the tubes of the gold trees).

    Whole numbers with one value beside 0 are a mask, with a few they are labels, with many probabilities.
    Scores (floats) are compared as the mask of those of at least 0.5, and by their average precision.
    Of two folders, files of one name are compared (a.swc or a.mask.tif with a.swc, a.gold.swc or a.tif).
    """
    for path in (predicted, gold):
        if not path.exists():
            raise OSError(f"{path}: no such file")
    if image is not None and picture is None:
        raise ValueError("--image: is for --picture, which is not given")
    if image_number is not None and image is None:
        raise ValueError("--image-number: is for --image, which is not given")
    from ..evaluation.comparison import (
        Comparison,
        as_json,
        as_table,
        find_comparisons,
        is_tree,
        means,
        neuron_name,
        write_csv,
    )

    many = is_folder_of_files(predicted)
    if many != is_folder_of_files(gold):
        raise ValueError(f"{gold}: expected {'a folder' if many else 'a file'} as {predicted} is, found the other")
    pairs = find_comparisons(predicted, gold) if many else [(neuron_name(predicted), predicted, gold)]
    if threshold is None:
        threshold = 2.0
    elif not is_tree(pairs[0][1]):
        raise ValueError(f"--threshold: is the distance within which trees agree, but {pairs[0][1]} is no tree")
    if ignore_lone_nodes and not is_tree(pairs[0][1]):
        raise ValueError(f"--ignore-lone-nodes: is for trees, but {pairs[0][1]} is none")
    for option, given in (("--label", label), ("--scale", scale)):
        if given is not None and is_tree(pairs[0][1]):
            raise ValueError(f"{option}: is for masks and scores, but {pairs[0][1]} is a tree")
    number, sides = parse_label(label), parse_voxel_size(voxel_size)
    check_units(swc_units, "--swc-units")
    for option, given in (("--voxel-size", voxel_size), ("--swc-units", swc_units)):
        if given is not None and not is_tree(pairs[0][2]):
            raise ValueError(f"{option}: is for gold trees, but {pairs[0][2]} is none")
    images = find_images(image, [name for name, *_ in pairs]) if many and image else {pairs[0][0]: image}
    sources = [path for pair in pairs for path in pair[1:]] + [path for path in images.values() if path is not None]
    for target in (csv, None if many else picture):
        if target is not None:
            check_target(target, *sources)
    if many and picture is not None:
        check_folder(picture)
    figures: dict[str, Any] = {}
    for name, ours, theirs in pairs:
        comparison = Comparison(
            ours,
            theirs,
            threshold,
            lone_nodes=not ignore_lone_nodes,
            label=number,
            scale=scale,
            voxel_size=sides,
            units=swc_units,
        )
        figures[name] = comparison.figures()
        if picture is not None:
            comparison.write_picture(picture / f"{name}.png" if many else picture, images.get(name), image_number)
        gold_tree = comparison.gold if comparison.is_tree else comparison.gold_tree
        seen, background = images.get(name), comparison.background
        if background is not None and seen is not None and gold_tree is not None:
            warn_of_mistake(gold_tree, theirs, background.xy[None], seen, background.voxel_size)
        elif gold_tree is not None and not comparison.is_tree:
            warn_of_mistake(gold_tree, theirs, comparison.predicted, ours, sides)
    if csv is not None:
        write_csv(csv, figures)
    if not many:
        (figures,) = figures.values()
    if json_asked:
        print(as_json({"neurons": figures, "mean": means(figures)} if many else figures))
    elif many:
        print(as_table(figures))
    else:
        width = max(18, *map(len, figures))
        for key, value in figures.items():
            print(f"{key:{width}} {value:.4f}" if isinstance(value, float) else f"{key:{width}} {value}")
