"""Makes the pictures of README and docs: the samples of `make demo`, the synthetic one with different options.

python scripts/docs_images.py demo            # a folder that `make demo` filled; writes docs/images/

Each picture is a maximum projection along z, with the traced tree in red.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw

from neuron_vit3d import TraceOptions, Tree, read_swc, read_volume, trace


IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIDE = 576  # of a panel, in pixels: two stand side by side on a page
GRAYS, RED, WHITE = 43, 43, 44  # rows of the palette: so few colours keep the files small
CASES = (  # what docs/how-to/trace.md shows, with the option as it is typed
    ("default", TraceOptions()),
    ("--bridge-distance 0", TraceOptions(bridge_distance=0)),
    ("--min-branch-length 25", TraceOptions(min_branch_length=25)),
    ("--threshold 0.999", TraceOptions(threshold=0.999)),
)


def main(
    demo: Annotated[Path, typer.Argument(help="Folder with image and scores of both samples.")],
    output: Annotated[Path, typer.Option(help="Folder for the pictures.")] = IMAGES,
) -> None:
    """Draws real.png and trace.png (image, and its tree) and trace-options.png (trees by different options)."""
    output.mkdir(parents=True, exist_ok=True)
    real, tree = read_volume(demo / "dendrites.tif"), read_swc(demo / "dendrites.swc")
    save(output / "real.png", [[projected(real.array), with_tree(projected(real.array), tree, real.shape)]])
    image, scores = read_volume(demo / "sample.tif"), read_volume(demo / "sample.scores.tif")
    gray = projected(image.array)
    trees = [trace(scores, options) for _, options in CASES]
    save(output / "trace.png", [[gray, with_tree(gray, trees[0], image.shape)]])
    panels = [
        captioned(with_tree(gray, tree, image.shape), f"{words}: {tree.length:.0f} voxels long")
        for tree, (words, _) in zip(trees, CASES, strict=True)
    ]
    save(output / "trace-options.png", [panels[:2], panels[2:]])


def projected(array: np.ndarray) -> np.ndarray:
    """The brightest of each line along z as a panel (SIDE, SIDE) of grays, uint8 rows of the palette."""
    plane = array.max(axis=0).astype(float)
    low, high = np.percentile(plane, (1, 99.7))
    gray = np.clip((plane - low) / (high - low), 0, 1) ** 0.7 * (GRAYS - 1)
    return np.array(Image.fromarray(gray.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).clip(
        0, GRAYS - 1
    )


def with_tree(panel: np.ndarray, tree: Tree, shape: tuple[int, int, int]) -> np.ndarray:
    picture = Image.fromarray(panel)
    draw = ImageDraw.Draw(picture)
    points = (tree.xyz[:, :2] + 0.5) * (SIDE / np.array([shape[2], shape[1]]))
    for child, parent in np.asarray(tree.edges).reshape(-1, 2):
        draw.line([tuple(points[child]), tuple(points[parent])], fill=RED, width=2)
    return np.array(picture)


def captioned(panel: np.ndarray, words: str) -> np.ndarray:
    picture = Image.fromarray(panel)
    ImageDraw.Draw(picture).text((8, SIDE - 30), words, fill=WHITE, font_size=20)
    return np.array(picture)


def save(path: Path, rows: list[list[np.ndarray]]) -> None:
    """Writes panels in rows, a line of white between them, as a PNG with a palette."""
    beside = np.full((SIDE, 6), WHITE, np.uint8)
    strips = [
        np.concatenate([row[0], *(part for panel in row[1:] for part in (beside, panel))], axis=1) for row in rows
    ]
    below = np.full((6, strips[0].shape[1]), WHITE, np.uint8)
    picture = Image.fromarray(np.concatenate([strips[0], *(part for one in strips[1:] for part in (below, one))]), "P")
    grays = [round(level * 255 / (GRAYS - 1)) for level in range(GRAYS)]
    picture.putpalette([*np.repeat(grays, 3).tolist(), 255, 60, 40, 255, 255, 255])
    picture.save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    typer.run(main)
