"""Real microscopes' files, read here and by a reader that knows their format alone: the same voxels?

The files come with the packages that read them, as test data: `toxo.dv` with mrc (BSD), `brain_crop3.ims` with
imaris-ims-file-reader (BSD). Unpack their source distributions, install both packages and the extras `bioio` and
`imaris`, and name the files:

    python benchmarks/microscope_files.py toxo.dv brain_crop3.ims --output benchmarks/results/microscope_files.md
"""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neuron_vit3d import read_volume
from neuron_vit3d.volumes import open_volume


# Formats of whose packages the source distributions hold no file.
WITHOUT = (".nd2 (bioio-nd2)", ".lif (bioio-lif)", ".sldy (bioio-sldy)", ".czi (czifile)")


def main(
    files: Annotated[list[Path], typer.Argument(help="The files.")],
    output: Annotated[Path | None, typer.Option(help="Markdown file. Default: standard output.")] = None,
) -> None:
    """Reads the files in both ways and writes a table."""
    lines = [
        "# Real microscopes' files",
        "",
        "`benchmarks/microscope_files.py`: files that packages ship as test data, read whole and by slices, beside a "
        "reader of that format alone (bioio-dv reads by mrc as well).",
        "",
        "| file | c, z, y, x | type | voxel z, y, x in um | slices | other reader | voxels that differ | its voxel |",
        "|---|---|---|---|---|---|---:|---|",
    ]
    lines += [row(path) for path in files]
    lines += ["", f"Without a real file: {', '.join(WITHOUT)}; the source distributions hold none."]
    text = "\n".join(lines) + "\n"
    print(text)
    if output is not None:
        output.write_text(text)


def row(path: Path) -> str:
    """A line of the table."""
    volume = read_volume(path)
    array = volume.array if volume.array.ndim == 4 else volume.array[None]
    same = True
    for channel, one in enumerate(array):
        with open_volume(path, channel=channel) as reader:
            same &= all(np.array_equal(reader.read(z, z + 1)[0], plane) for z, plane in enumerate(one))
    package, theirs, size = by_its_own_reader(path)
    differ = int((theirs != array).sum()) if theirs.shape == array.shape else f"another shape, {theirs.shape}"
    cells = [path.name, " ".join(map(str, array.shape)), volume.dtype, in_words(volume.voxel_size)]
    cells += ["the same" if same else "others", f"{package} {version(package)}", differ, in_words(size)]
    return "|" + "".join(f" {cell} |" for cell in cells)


def by_its_own_reader(path: Path) -> tuple[str, np.ndarray, tuple[float, ...]]:
    """The name of a package that reads the format, and what it reads: (c, z, y, x), and the voxel size z, y, x."""
    if path.suffix == ".dv":
        import mrc

        with mrc.DVFile(path) as file:
            size = file.voxel_size
            return "mrc", np.array(file.asarray()), (size.z, size.y, size.x)
    if path.suffix == ".ims":
        from imaris_ims_file_reader.ims import ims

        file = ims(str(path))
        return "imaris-ims-file-reader", np.asarray(file[0, 0, :, :, :, :]), tuple(file.resolution)
    raise typer.BadParameter(f"{path}: expected a .dv or .ims file")


def in_words(size: tuple[float, ...] | None) -> str:
    """A voxel size."""
    return "unknown" if size is None else ", ".join(f"{side:.5g}" for side in size)


if __name__ == "__main__":
    typer.run(main)
