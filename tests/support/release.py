"""A small release of BigNeuron: generated neurons under the release's own names, and everything that can be wrong with
one."""

import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from neuron_vit3d import synthetic_neuron
from support.pbd_files import PBD, RAW, header


SHAPE = (8, 96, 96)
NAMES = [  # group, sample folder, image, gold tree
    ("p_checked7_taiwan_flycirciut", "done_a", "a.v3dpbd", "a.v3dpbd.ano_stamp_2015_06_17_11_23.swc"),
    (
        "p_checked7_janelia_flylight_part1",
        "err_b",
        "b.extract_1.v3dpbd",
        "b.extract_1.v3dpbd_stamp_2015_06_17_11_23.swc",
    ),
    ("p_checked6_mouse_korea", "c", "c.tif.v3dpbd", "c.tif.v3dpbd.neuron1.ano_stamp_2015_06_16_17_57.swc"),
    ("e_checked6_chick_uw", "hard_d", "d.v3dpbd", "d.v3dpbd.ano_stamp_2015_06_16_13_32.swc_sorted.swc"),
    ("p_checked6_silkmoth_utokyo", "0970", "0970_seg.v3dpbd", "0970_seg.v3dpbd.swc"),
    (
        "p_checked6_human_allen_confocal",
        "Confocal",
        "confocal.v3draw",
        "confocal.v3draw.ano_stamp_201507_15_15_51.swc",
    ),
]  # fmt: skip


@lru_cache
def neuron(seed: int):
    return synthetic_neuron(SHAPE, seed=seed, quality="clean", anisotropy=1.0)


def vaa3d(array: np.ndarray, compressed: bool) -> bytes:
    """A v3draw or v3dpbd file of an uint8 volume (z, y, x)."""
    raw = array.tobytes()
    if compressed:  # literal runs alone
        raw = b"".join(bytes([len(raw[i : i + 33]) - 1]) + raw[i : i + 33] for i in range(0, len(raw), 33))
    return header(PBD if compressed else RAW, (1, *array.shape), 1) + raw


def write_sample(folder: Path, image: str, tree: str, seed: int = 0, *, worse: bool = True) -> None:
    """One sample folder: image, gold tree, `.ano`, and worse trees (of another neuron) that must not be taken."""
    folder.mkdir(parents=True, exist_ok=True)
    made, other = neuron(seed), neuron(seed + 1)
    (folder / image).write_bytes(vaa3d(made.volume.array, image.endswith("pbd")))
    (folder / tree).write_text(made.tree.to_text())
    (folder / f"{image}.ano").write_text(f"RAWIMG={image}\nSWCFILE={tree}\n")
    if worse:
        bases = {f"{image}.swc", tree.partition(".swc_sorted")[0].removesuffix(".swc") + ".swc"} - {tree}
        for name in bases if "stamp" in tree or "sorted" in tree else ():
            (folder / name).write_text(other.tree.to_text())


def write_release(root: Path, names=NAMES) -> Path:
    """`root/gold166/<group>/<sample>/...`; returns root."""
    for seed, (group, sample, image, tree) in enumerate(names):
        write_sample(root / "gold166" / group / sample, image, tree, seed % 4)
    return root


def write_zip(path: Path, root: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(root).as_posix())
    return path


def write_bad_samples(root: Path) -> dict[str, str]:
    """Samples that cannot be used, beside whatever is there; image or tree -> a part of the reason."""
    group = root / "gold166" / "p_checked6_mouse_tufts"
    write_sample(group / "no_tree", "no_tree.v3dpbd", "no_tree.v3dpbd.swc")
    (group / "no_tree" / "no_tree.v3dpbd.swc").unlink()
    write_sample(group / "no_image", "no_image.v3dpbd", "no_image.v3dpbd.swc")
    (group / "no_image" / "no_image.v3dpbd").unlink()
    write_sample(group / "empty", "empty.v3dpbd", "empty.v3dpbd.swc")
    (group / "empty" / "empty.v3dpbd.swc").write_text("# nothing\n")
    write_sample(group / "two", "two.v3dpbd", "two.v3dpbd.neuron1.ano_stamp_2015_06_16_17_57.swc", worse=False)
    (group / "two" / "two.v3dpbd.neuron2.ano_stamp_2015_06_16_17_57.swc").write_text(neuron(1).tree.to_text())
    write_sample(group / "cut", "cut.v3dpbd", "cut.v3dpbd.swc")
    whole = (group / "cut" / "cut.v3dpbd").read_bytes()
    (group / "cut" / "cut.v3dpbd").write_bytes(whole[: len(whole) // 2])
    write_sample(group / "lie", "lie.v3draw", "lie.v3draw.swc")
    (group / "lie" / "lie.v3draw").write_bytes(header(RAW, (1, 1000, 100_000, 100_000), 2) + bytes(1000))
    noise = np.random.default_rng(0).integers(0, 90, SHAPE, dtype=np.uint8)
    write_sample(group / "astray", "astray.v3dpbd", "astray.v3dpbd.swc")
    (group / "astray" / "astray.v3dpbd").write_bytes(vaa3d(noise, True))
    write_sample(group / "far", "far.v3dpbd", "far.v3dpbd.swc")
    (group / "far" / "far.v3dpbd.swc").write_text("1 0 5000 5000 5000 1 -1\n2 0 5100 5000 5000 1 1\n")
    prefix = "gold166/p_checked6_mouse_tufts/"
    return {
        prefix + "no_tree/no_tree.v3dpbd": "an image without a tree",
        prefix + "no_image/no_image.v3dpbd.swc": "a tree without an image",
        prefix + "empty/empty.v3dpbd": "no node in the file",
        prefix + "two/two.v3dpbd": "the image has 2 neurons",
        prefix + "cut/cut.v3dpbd": "the stream ends",
        prefix + "lie/lie.v3draw": "expected 20000000000043 bytes, found 1043",
        prefix + "astray/astray.v3dpbd": "fits in no way",
        prefix + "far/far.v3dpbd": "fits in no way",
    }
