"""Which tree belongs to which image, told by their names alone: BigNeuron's release, and any folders of images with trees.

BigNeuron's gold trees lie beside their images and are named after them, in several ways (`img` is `neuron.v3dpbd`):

    img.ano_stamp_2015_06_17_11_23.swc      a stamp of the annotation, with or without `.ano`
    img_stamp_2015_06_17_11_23.swc
    img.neuron1.ano_stamp_....swc           one of several neurons of the image
    img.ano_stamp_....swc_sorted.swc        the same tree with its nodes sorted, once or twice
    img.swc                                 neither
    00_sorted_img....swc                    any of these, sorted again later

Of several the sorted one is taken, then a stamped one (the newest), then the plain one. The names of folders play no part, so
their prefixes (`err_`, `hard_` ...) do no harm.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from ..volumes import is_volume_name, volume_stem


TREE_SUFFIXES = (".swc", ".eswc")
PIXEL_SIZE_SUFFIX = ".pixelsize.txt"
ANNOTATION_SUFFIX = ".ano"
_SORTED_LATER = re.compile(r"^\d+_sorted_")
_AFTER_THE_IMAGE = re.compile(
    r"(?P<neuron>\.neuron\d+)?(?:\.ano)?(?P<stamp>_stamp_[\d_]*\d)?(?P<sorted>(?:(?:\.e?swc)?_sorted)*)"
)
_ANNOTATION_LINE = re.compile(r"^\s*SWCFILE\s*=\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Candidate:
    """An image and the trees that may be its gold standard, the best one first; paths are relative to the root.

    `neuron_id` is the image's path without suffix (and without the folder that is named like it); `passed_over` says what
    was not taken, and why.
    """

    neuron_id: str
    image: str
    trees: tuple[str, ...]
    pixel_size: str | None = None
    passed_over: dict[str, str] = field(default_factory=dict)


def find_candidates(
    files: Iterable[str], annotations: Mapping[str, str] | None = None
) -> tuple[list[Candidate], dict[str, str]]:
    """Pairs images with trees.

    Args:
        files: paths relative to a root, with `/`.
        annotations: text of `.ano` files by path; one names the tree (`SWCFILE=`) where stamps alone do not decide.

    Returns:
        candidates sorted by neuron_id, and `{path: why}` of images and trees that are in none.
    """
    folders = defaultdict(list)
    for path in sorted(files):
        folders[PurePosixPath(path).parent.as_posix()].append(path)
    candidates, left_images, left_trees, left_out = [], [], [], {}
    for inside in folders.values():
        images, others = _distinct_images(inside)
        left_out |= others
        trees = [path for path in inside if path.lower().endswith(TREE_SUFFIXES)]
        named = {
            path: _ANNOTATION_LINE.findall(text) for path, text in (annotations or {}).items() if path in set(inside)
        }
        owners = {tree: _owner(tree, images) for tree in trees}
        for image in images:
            own = [tree for tree in trees if owners[tree] == image]
            if not own and len(images) == 1:
                own = trees
                if len(own) > 1:  # names say nothing: nobody can know which one is meant
                    left_out[image] = f"{len(own)} trees lie beside it and none is named after it: {_names(own)}"
                    left_out |= dict.fromkeys(own, f"several trees lie beside {_name(image)}, none named after it")
                    continue
            if not own:
                left_images.append(image)
                continue
            ranked, passed_over, why_not = _rank(
                image, own, {_name(name) for names in named.values() for name in names}
            )
            if why_not:
                left_out[image] = why_not
                left_out |= dict.fromkeys(own, why_not)
                continue
            candidates.append(Candidate(neuron_id(image), image, ranked, _pixel_size(image, inside), passed_over))
        used = {tree for candidate in candidates for tree in (*candidate.trees, *candidate.passed_over)}
        left_trees += [tree for tree in trees if tree not in used and tree not in left_out]
    matched, rest = _match_across_folders(left_images, left_trees)
    left_out |= rest
    found = _told_apart(candidates + matched)
    return sorted(found, key=lambda one: one.neuron_id), dict(sorted(left_out.items()))


def neuron_id(image: str) -> str:
    """`group/sample/neuron.v3dpbd` -> `group/sample/neuron`; `group/neuron/neuron.tif` and `group/neuron/image.tif` ->
    `group/neuron`. The release's own top folder is left out, so that folder and archive give the same ids."""
    path = PurePosixPath(image)
    parts = [part for part in path.parent.parts if part.lower() != "gold166"]
    stem = volume_stem(path.name)
    if not (parts and (stem.lower() == "image" or stem == parts[-1])):
        parts.append(stem)
    return "/".join(parts)


def is_image_name(path: str) -> bool:
    """Whether a file of this name holds an image, rather than labels (`labels.tif`, `a.mask.tif`) or no volume."""
    return is_volume_name(_name(path)) and not volume_stem(_name(path)).lower().endswith(("mask", "labels"))


def _told_apart(candidates: list[Candidate]) -> list[Candidate]:
    """Where two images would have one id (`a.tif` and `a/a.tif`) both keep their whole path."""
    count = Counter(one.neuron_id for one in candidates)
    return [
        replace(one, neuron_id=one.image[: len(one.image) - len(_name(one.image))] + volume_stem(_name(one.image)))
        if count[one.neuron_id] > 1
        else one
        for one in candidates
    ]


def _distinct_images(inside: list[str]) -> tuple[list[str], dict[str, str]]:
    """The images of a folder; of one stack in several formats the first."""
    images, left_out = {}, {}
    for path in inside:
        if is_image_name(path):
            first = images.setdefault(volume_stem(_name(path)), path)
            if first != path:
                left_out[path] = f"the same stack as {_name(first)}, which is taken"
    return list(images.values()), left_out


def _owner(tree: str, images: list[str]) -> str | None:
    """The image that a tree is named after; the longest name wins (`a.tif`, `a_stamp_1.tif`)."""
    fitting = [image for image in images if _suffix_of_name(tree, image) is not None]
    return max(fitting, key=lambda image: len(_name(image)), default=None)


def _suffix_of_name(tree: str, image: str) -> re.Match | None:
    """What follows the image's name in the tree's; None where it is not named after the image."""
    stem = _SORTED_LATER.sub("", _name(tree))
    stem = _plain(stem[: -len(PurePosixPath(stem).suffix)])
    for base in (_plain(_name(image)), _plain(volume_stem(_name(image)))):
        if stem.startswith(base) and (match := _AFTER_THE_IMAGE.fullmatch(stem[len(base) :])):
            return match
    return None


def _rank(image: str, trees: list[str], named: set[str]) -> tuple[tuple[str, ...], dict[str, str], str | None]:
    """(the trees from best to worst, what is passed over and why, why none can be chosen)."""

    def order(tree: str) -> tuple:
        match = _suffix_of_name(tree, image)
        if match is None:
            return (0,)
        stamp, times_sorted = match["stamp"] or "", len(re.findall("_sorted", match["sorted"]))
        digits = re.sub(r"\D", "", stamp)
        kind = 3 if times_sorted else 2 if stamp else 1
        return (kind, _name(tree) in named, digits, times_sorted)

    ranked = sorted(trees, key=lambda tree: (order(tree), tree), reverse=True)
    best = ranked[0]
    neurons = {match["neuron"] for tree in trees if (match := _suffix_of_name(tree, image)) and match["neuron"]}
    if len(neurons) > 1:
        return (), {}, f"the image has {len(neurons)} neurons with a tree each, expected one: {_names(trees)}"
    twins = [tree for tree in ranked if order(tree) == order(best)]
    if len(twins) > 1:
        return (), {}, f"{len(twins)} trees are equally good, expected one gold tree: {_names(twins)}"
    kinds = {3: "sorted", 2: "stamped", 1: "plain", 0: "other"}
    passed = {tree: f"{kinds[order(best)[0]]} {_name(best)} goes before it" for tree in ranked[1:]}
    return tuple(ranked), passed, None


def _match_across_folders(images: list[str], trees: list[str]) -> tuple[list[Candidate], dict[str, str]]:
    """Images in one folder, trees in another (`images/a.tif`, `swc/a.swc`): where the names leave no choice."""
    candidates, left_out = [], {}
    by_image = {image: [tree for tree in trees if _suffix_of_name(tree, image)] for image in images}
    wanted = defaultdict(list)
    for image, own in by_image.items():
        for tree in own:
            wanted[tree].append(image)
    for image, own in by_image.items():
        if len(own) == 1 and wanted[own[0]] == [image]:
            candidates.append(Candidate(neuron_id(image), image, (own[0],)))
        elif own:
            left_out[image] = f"no tree beside it, and elsewhere more than one may be meant: {_names(own)}"
        else:
            left_out[image] = "an image without a tree"
    used = {candidate.trees[0] for candidate in candidates}
    left_out |= {tree: "a tree without an image" for tree in trees if tree not in used}
    return candidates, left_out


def _pixel_size(image: str, inside: list[str]) -> str | None:
    """The file that tells the image's voxel size: named after it, or the only one in the folder."""
    texts = [path for path in inside if path.lower().endswith(PIXEL_SIZE_SUFFIX)]
    bases = {_name(image).lower(), volume_stem(_name(image)).lower()}
    for path in texts:
        if _name(path)[: -len(PIXEL_SIZE_SUFFIX)].lower() in bases:
            return path
    return texts[0] if len(texts) == 1 and len(_distinct_images(inside)[0]) == 1 else None


def _plain(name: str) -> str:
    """What writers of trees make of a name: brackets, quotes and blanks become `_`."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name).lower()


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _names(paths: list[str]) -> str:
    return ", ".join(_name(path) for path in sorted(paths)[:4]) + (" ..." if len(paths) > 4 else "")
