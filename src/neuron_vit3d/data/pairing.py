"""Tells by names alone which tree belongs to which image, in BigNeuron's release and in any other folders.

BigNeuron's gold trees lie beside their images and are named after them, in several ways (`img` is `neuron.v3dpbd`):

    img.ano_stamp_2015_06_17_11_23.swc      a stamp of the annotation, with or without `.ano`
    img_stamp_2015_06_17_11_23.swc
    img.neuron1.ano_stamp_....swc           one of several neurons of the image
    img.ano_stamp_....swc_sorted.swc        the same tree with its nodes sorted, once or twice
    img.swc                                 neither
    00_sorted_img....swc                    any of these, sorted again later

Of several trees a sorted one is taken first, then a stamped one (the newest), then the plain one. Where none lies
beside the image, a tree is looked for in other folders. Names are compared exactly, then without regard to case, then
with brackets, quotes and blanks as `_`, as writers of trees spell them (`tree_names`); a looser comparison counts only
where a single image fits. Trees whose names say that a program drew them (`img_app2.swc`, `consensus.swc`) are never
taken.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..volumes import is_volume_name, volume_stem
from .tree_names import Fit, ImageNames, Reading, file_name, folder_name, readings_of, readings_of_gold, tree_stem


TREE_SUFFIXES = (".swc", ".eswc")
PIXEL_SIZE_SUFFIX = ".pixelsize.txt"
ANNOTATION_SUFFIX = ".ano"
_AUTOMATIC = re.compile(r"(?:^|[\W_])(?:app\d|auto(?![a-z])|most(?![a-z])|neutube|snake)|consensus", re.IGNORECASE)
_ANNOTATION_LINE = re.compile(r"^\s*(SWCFILE|RAWIMG)\s*=\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
_KINDS = {3: "sorted", 2: "stamped", 1: "plain", 0: "other"}


@dataclass(frozen=True)
class Candidate:
    """An image and the trees that may be its gold standard, the best one first; paths are relative to the root.

    `neuron_id` is unique among the images, see the function. `passed_over` says which trees were not taken, and why:
    those after the first one, and others beside the image, which are not in `trees`. `note` says what is odd about the
    first tree.
    """

    neuron_id: str
    image: str
    trees: tuple[str, ...]
    pixel_size: str | None = None
    passed_over: dict[str, str] = field(default_factory=dict)
    note: str | None = None


def find_candidates(
    files: Iterable[str], annotations: Mapping[str, str] | None = None
) -> tuple[list[Candidate], dict[str, str]]:
    """Pairs images with trees.

    First come trees that are named after the image and lie beside it; then the only tree beside a folder's only image;
    then trees in other folders that are named after the image, of which those count whose paths have the longest
    common end with the image's (`images/m1/a.tif`, `swc/m1/a.swc`).

    Args:
        files: paths relative to a root, with `/`.
        annotations: text of `.ano` files by path; one names the tree (`SWCFILE=`) where stamps or names do not decide.

    Returns:
        candidates sorted by neuron_id, and `{path: why}` of images and trees that are in none.
    """
    pairing = _Pairing(sorted(set(files)), annotations or {})
    pairing.pair_beside()
    pairing.pair_alone()
    pairing.pair_across_folders()
    pairing.explain_the_rest()
    return sorted(pairing.candidates(), key=lambda one: one.neuron_id), dict(sorted(pairing.left_out.items()))


def neuron_id(image: str) -> str:
    """Returns the path without suffix: `group/sample/n.v3dpbd` -> `group/sample/n`; `group/n/image.tif` -> `group/n`.

    The release's own top folder is left out, so that folder and archive give the same ids. Where `group/n.tif` exists
    too, find_candidates calls `group/n/image.tif` `group/n/image`.
    """
    return _possible_ids(image)[0]


def is_image_name(path: str) -> bool:
    """Tells whether a file of this name holds an image, and not labels (`labels.tif`, `a.mask.tif`) or no volume."""
    return is_volume_name(file_name(path)) and not volume_stem(file_name(path)).lower().endswith(("mask", "labels"))


class _Pairing:
    """The state of find_candidates: what is paired, what is left out, and why."""

    def __init__(self, files: list[str], annotations: Mapping[str, str]):
        self.files, self.known = files, set(files)
        self.left_out: dict[str, str] = {}
        self.images = defaultdict(list)  # folder -> images; of one stack in several formats the first
        self.trees = defaultdict(list)  # folder -> trees
        self.beside = ImageNames()
        self.ranked: dict[str, tuple[str, ...]] = {}  # image -> its trees
        self.passed_over: dict[str, dict[str, str]] = defaultdict(dict)
        self.notes: dict[str, list[str]] = defaultdict(list)
        self.reasons: dict[str, str] = {}  # image or tree -> why it is left out, if nothing is found for it
        self.used: set[str] = set()
        stems: dict[str, str] = {}
        for path in files:
            if path.lower().endswith(TREE_SUFFIXES):
                self.trees[folder_name(path)].append(path)
            elif is_image_name(path):
                first = stems.setdefault(_stem(path), path)
                if first == path:
                    self.images[folder_name(path)].append(path)
                    self.beside.add(path, [folder_name(path)])
                else:
                    self.left_out[path] = f"the same stack as {file_name(first)}, which is taken"
        self.annotated: dict[str, tuple[str | None, str]] = {}  # tree -> (image, file that names the tree)
        for path, text in annotations.items():
            self._read_annotation(path, text)

    def pair_beside(self) -> None:
        """Pairs images with trees of the same folder that are named after them, or that an annotation file names."""
        own = defaultdict(list)
        for folder, trees in self.trees.items():
            for tree in trees if folder in self.images else ():
                if (fit := self.beside.find(tree, readings_of_gold(tree), [folder])) and fit.image:
                    own[fit.image].append(fit)
                elif (image := self.annotated.get(tree, (None,))[0]) and not self._is_automatic(tree):
                    own[image].append(Fit(tree, [image]))
        for image, fits in own.items():
            why_not = self._take(image, fits)
            if why_not:
                self.left_out |= dict.fromkeys([image, *(fit.tree for fit in fits)], why_not)

    def pair_alone(self) -> None:
        """Pairs the only image of a folder with its only tree, whatever the tree is called."""
        for folder, images in self.images.items():
            if len(images) > 1 or folder not in self.trees or not self._is_free(images[0]):
                continue
            trees = [tree for tree in self.trees[folder] if not self._is_automatic(tree)]
            if len(trees) == 1:
                self._take(images[0], [Fit(trees[0], images)])
            elif trees:  # names say nothing: nobody can know which one is meant
                self.reasons |= dict.fromkeys(
                    trees, f"several trees lie beside {file_name(images[0])}, none named after it"
                )
                self.reasons[images[0]] = (
                    f"{len(trees)} trees lie beside it and none is named after it: {_names(trees)}"
                )

    def pair_across_folders(self) -> None:
        """Pairs images with trees of other folders, where names and the ends of paths leave no choice."""
        strays = [tree for trees in self.trees.values() for tree in trees if self._is_free(tree)]
        images = [image for images in self.images.values() for image in images]
        if not strays or not any(self._is_free(image) for image in images):
            return
        index, own = ImageNames(), defaultdict(list)
        unclear: dict[int, tuple[Sequence[str], list[str]]] = {}
        for image in images:
            index.add(image, _tails(folder_name(image)), has_tree=not self._is_free(image))
        for tree in strays:
            fit = index.find(tree, readings_of_gold(tree), _tails(folder_name(tree)))
            if fit and fit.image:
                own[fit.image].append(fit)
            elif fit and fit.images:
                unclear.setdefault(id(fit.images), (fit.images, []))[1].append(tree)
            elif fit:
                self.reasons.setdefault(tree, "a tree whose image has another one beside it")
        for meant, trees in unclear.values():
            for image in meant:
                self.reasons[image] = (
                    f"no tree beside it, and this is not the only image that may be meant by {_names(trees)}"
                )
        for image, fits in own.items():
            nearest = max(len(fit.place) for fit in fits)
            near = [fit for fit in fits if len(fit.place) == nearest]
            far = [fit.tree for fit in fits if len(fit.place) < nearest]
            if self._take(image, near):
                told = ", ".join(sorted(fit.tree for fit in near)[:4])
                self.reasons[image] = f"no tree beside it, and elsewhere more than one may be meant: {told}"
                self.reasons |= dict.fromkeys([fit.tree for fit in near], f"one of several that {image} may mean")
            else:
                why = f"the folder of {self.ranked[image][0]} is more like the image's"
                self.passed_over[image] |= dict.fromkeys(far, why)
                self.used |= set(far)

    def explain_the_rest(self) -> None:
        """Notes trees beside an image that has one already, and leaves out all other halves of pairs."""
        automatic = defaultdict(list)
        for trees in self.trees.values():
            for tree in trees:
                if not self._is_free(tree):
                    continue
                image, is_automatic = self._likely_image(tree), self._is_automatic(tree)
                if image in self.ranked:
                    why = "an automatic tracing, by its name" if is_automatic else "not named as the image's gold tree"
                    self.passed_over[image][tree] = why
                elif is_automatic:
                    automatic[image].append(tree)
                    self.left_out[tree] = "an automatic tracing, by its name"
                else:
                    self.left_out[tree] = self.reasons.get(tree, "a tree without an image")
        for images in self.images.values():
            for image in filter(self._is_free, images):
                why = self.reasons.get(image, "an image without a tree")
                if image not in self.reasons and automatic[image]:
                    why = f"no gold tree, only automatic tracings by their names: {_names(automatic[image])}"
                self.left_out[image] = "; ".join([why, *self.notes[image]])

    def candidates(self) -> list[Candidate]:
        images = [image for images in self.images.values() for image in images]
        ids, sizes = _told_apart(images), self._pixel_sizes()
        return [
            Candidate(
                ids[image],
                image,
                trees,
                sizes.get(image),
                dict(self.passed_over[image]),
                "; ".join(self.notes[image]) or None,
            )
            for image, trees in self.ranked.items()
        ]

    def _pixel_sizes(self) -> dict[str, str]:
        """Finds the file with each image's voxel size: named after it, or the only one beside the only image."""
        texts = defaultdict(list)
        found: dict[str, str] = {}
        for path in self.files:
            if path.lower().endswith(PIXEL_SIZE_SUFFIX):
                texts[folder_name(path)].append(path)
        for folder, paths in texts.items():
            for path in paths:
                fit = self.beside.find(path, [Reading(file_name(path)[: -len(PIXEL_SIZE_SUFFIX)])], [folder])
                if fit and fit.image:
                    found.setdefault(fit.image, path)
            if len(paths) == len(self.images.get(folder, ())) == 1:
                found.setdefault(self.images[folder][0], paths[0])
        return found

    def _take(self, image: str, fits: list[Fit]) -> str | None:
        """Pairs an image with trees, the best one first, or says why none can be chosen."""
        neurons = {fit.neuron for fit in fits} - {None}
        if len(neurons) > 1:
            return (
                f"the image has {len(neurons)} neurons with a tree each, expected one: {_names(f.tree for f in fits)}"
            )
        ranks = {fit.tree: fit.rank(fit.tree in self.annotated) for fit in fits}
        ranked = sorted(ranks, key=lambda tree: (ranks[tree], tree), reverse=True)
        best = ranked[0]
        twins = [tree for tree in ranked if ranks[tree] == ranks[best]]
        if len(twins) > 1:
            return f"{len(twins)} trees are equally good, expected one gold tree: {_names(twins)}"
        self.ranked[image] = tuple(ranked)
        self.used |= set(ranked)
        why = f"{_KINDS[ranks[best][0]]} {file_name(best)} goes before it"
        self.passed_over[image] |= dict.fromkeys(ranked[1:], why)
        if ranks[best][0] == 0:
            named_by = f", but {file_name(self.annotated[best][1])} names it" if best in self.annotated else ""
            self.notes[image].append(f"{file_name(best)} is not named after the image{named_by}")
        return None

    def _is_free(self, path: str) -> bool:
        return path not in self.ranked and path not in self.used and path not in self.left_out

    def _likely_image(self, tree: str) -> str | None:
        """Returns the image whose name the tree's name begins with, or the folder's only image."""
        fit = self.beside.find(tree, readings_of(tree), [folder_name(tree)])
        images = self.images.get(folder_name(tree), ())
        return fit.image if fit and fit.image else images[0] if len(images) == 1 else None

    def _is_automatic(self, tree: str) -> bool:
        """Tells whether the tree's name says, after the image's, that a program drew it.

        Where no image fits, the whole name of the tree is looked at.
        """
        fit = self.beside.find(tree, readings_of(tree), [folder_name(tree)])
        return bool(_AUTOMATIC.search(fit.reading.rest if fit and fit.reading else tree_stem(tree)))

    def _read_annotation(self, path: str, text: str) -> None:
        """Notes which trees an `.ano` file names, and for which image.

        That is the image that the file is named after, or the one that it names, or the only one.
        """
        told = defaultdict(list)
        for key, value in _ANNOTATION_LINE.findall(text):
            told[key.upper()].append(file_name(value.replace("\\", "/")))  # written under Windows, too
        folder, names = folder_name(path), [file_name(path)[: -len(ANNOTATION_SUFFIX)], *told["RAWIMG"]]
        fit = self.beside.find(path, [Reading(name) for name in names], [folder])
        images = self.images.get(folder, ())
        image = fit.image if fit and fit.image else images[0] if len(images) == 1 else None
        for name in told["SWCFILE"]:
            tree = f"{folder}/{name}".lstrip("/")
            if tree in self.known:
                self.annotated[tree] = (image, path)
            elif image:
                self.notes[image].append(f"{file_name(path)} names {name}, which is absent")


def _possible_ids(image: str) -> list[str]:
    whole = f"{folder_name(image)}/{volume_stem(file_name(image))}".lstrip("/")
    parts = whole.split("/")
    parts = parts[1:] if len(parts) > 1 and parts[0].lower() == "gold166" else parts
    short = parts[:-1] if len(parts) > 1 and parts[-1].lower() == "image" else parts
    return ["/".join(short), "/".join(parts), whole, image]


def _told_apart(images: list[str]) -> dict[str, str]:
    """Maps image to id. Of images that would share an id (`c.tif`, `c/image.tif`) the shortest path keeps it."""
    ids = {}
    for image in sorted(images, key=lambda one: (one.count("/"), one)):
        ids[next(name for name in _possible_ids(image) if name not in ids)] = image
    return {image: name for name, image in ids.items()}


def _tails(folder: str) -> list[tuple[str, ...]]:
    """Lists the ends of a folder's path, the longest first, down to none."""
    parts = tuple(folder.split("/")) if folder else ()
    return [parts[start:] for start in range(len(parts) + 1)]


def _stem(image: str) -> str:
    return f"{folder_name(image)}/{volume_stem(file_name(image))}"


def _names(paths: Iterable[str]) -> str:
    paths = sorted(paths)
    return ", ".join(file_name(path) for path in paths[:4]) + (" ..." if len(paths) > 4 else "")
