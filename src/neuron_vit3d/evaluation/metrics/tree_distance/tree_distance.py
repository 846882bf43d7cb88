"""The `evaluate` module "tree_distance": traced neurons against the trees that a human drew, tree by tree.

A thin wrapper over `neuron_vit3d.tree_distance`. `neuron_vit3d.evaluation.metrics.pairs` says how trees are stored
until they are scored.
"""

import math
import os
import tempfile
import warnings
from pathlib import Path

import evaluate
import numpy as np

from neuron_vit3d.evaluation.metrics.pairs import FEATURES, StoredAsBytes, check_exists, is_path, means, pack, unpack
from neuron_vit3d.morphology import SWCError, Tree, read_swc, tree_distance


_DESCRIPTION = """\
How far traced neurons are from the trees that a human drew: BigNeuron's distances (ESA, DSA, PDS), precision, recall
and F1 by length, of branch points and of tips, as the mean over trees and for each tree.
"""

_INPUTS = """
Args:
    predictions: list of trees: each a `neuron_vit3d.Tree`, the path of an SWC file, or the text of one (a string with
        line ends). Coordinates are voxels. The prediction of a tracer that found nothing is a `Tree` without nodes.
    references: list of gold trees, one for each prediction, in the same forms. Files and texts are mended as hand-made
        traces are (a node listed twice, a missing parent), with a warning.
    threshold: distance in voxels from which a sample is different (DSA, PDS), and up to which it agrees (precision,
        recall); 2.0 by default, as BigNeuron has it.

Returns:
    esa, dsa, esa12, esa21: means over the trees whose prediction has nodes, in voxels; NaN if none has.
    pds, pds12, pds21, precision, recall, f1: means over all trees, in [0, 1]. A prediction without nodes has pds 1 and
        precision, recall and f1 0.
    length_predicted, length_gold: means over all trees, in voxels.
    precision_wide, recall_wide, f1_wide: precision, recall and f1 within the larger of `threshold` and the reference's
        radius there.
    branch_points_precision, branch_points_recall, branch_points_f1: of the nodes in which three or more edges meet,
        matched one to one within 5 voxels; 1 where neither tree has any.
    tips_precision, tips_recall, tips_f1: the same of the nodes with one edge.
    length_ratio: mean of length_predicted over length_gold; of the trees in which it is finite.
    threshold: as given.
    empty_predictions: number of predictions without nodes, which the means of the distances leave out.
    by_tree: list of dicts, for each tree in order what `neuron_vit3d.tree_distance` returns.

Raises:
    ValueError: different numbers of predictions and references, a missing file, text that is no sound SWC, a gold tree
        without nodes, NaN positions. Nothing of that batch is added. Also a threshold that is not positive.

Warns:
    UserWarning: empty_predictions is not 0.

Examples:
    >>> import evaluate
    >>> from neuron_vit3d.evaluation.metrics import METRICS
    >>> metric = evaluate.load(str(METRICS["tree_distance"]))
    >>> gold = "1 0 0 0 0 1 -1\\n2 0 10 0 0 1 1\\n"
    >>> predicted = "1 0 0 1 0 1 -1\\n2 0 10 1 0 1 1\\n"
    >>> metric.compute(predictions=[predicted], references=[gold])["esa"]
    1.0
"""

_CITATION = """\
@article{peng2010v3d,
  title = {V3D enables real-time 3D visualization and quantitative analysis of large-scale biological image data sets},
  author = {Peng, Hanchuan and Ruan, Zongcai and Long, Fuhui and Simpson, Julie H. and Myers, Eugene W.},
  journal = {Nature Biotechnology},
  volume = {28},
  pages = {348--353},
  year = {2010}
}
@article{manubensgil2023bigneuron,
  title = {BigNeuron: a resource to benchmark and predict performance of algorithms for automated tracing of neurons in
           light microscopy datasets},
  author = {Manubens-Gil, Linus and others},
  journal = {Nature Methods},
  volume = {20},
  pages = {824--835},
  year = {2023}
}
"""


class TreeDistance(StoredAsBytes, evaluate.Metric):
    """Mean of `neuron_vit3d.tree_distance` over pairs of trees; see `inputs_description`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=FEATURES,
            license="apache-2.0",
            reference_urls=["https://doi.org/10.1038/nbt.1612", "https://doi.org/10.1038/s41592-023-01848-5"],
        )

    def compute(self, *, predictions=None, references=None, threshold=2.0):
        """Distances of all trees that were added, and of those given here."""
        if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or not threshold > 0:
            raise ValueError(f"expected threshold to be a positive number of voxels, got {threshold!r}")
        return super().compute(predictions=predictions, references=references, threshold=threshold)

    def _packed(self, prediction, reference, names):
        predicted, gold = _tree(prediction, names[0]), _tree(reference, names[1], mend_structure=True)
        if not len(gold):
            raise ValueError(f"{names[1]}: expected a gold tree, got one without nodes")
        return _pack_tree(predicted), _pack_tree(gold)

    def _compute(self, predictions, references, threshold=2.0):
        by_tree = [
            tree_distance(Tree(**unpack(prediction)), Tree(**unpack(reference)), threshold=threshold)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        empty = sum(math.isnan(distances["esa"]) for distances in by_tree)
        if empty:
            warnings.warn(
                f"{empty} of {len(by_tree)} predictions have no node; the means of esa, dsa, esa12 and esa21 leave "
                "them out",
                stacklevel=2,
            )
        return means(by_tree) | {"threshold": float(threshold), "empty_predictions": empty, "by_tree": by_tree}


def _tree(item, name: str, *, mend_structure: bool = False) -> Tree:
    """The tree of whatever stands for one; raises ValueError."""
    if isinstance(item, str) and ("\n" in item or "\r" in item):
        return _parsed(item, name, mend_structure)
    if is_path(item):
        check_exists(item, f"{name} (SWC text has line ends, all else is a path)")
        return read_swc(item, mend_structure=mend_structure)
    if not isinstance(item, Tree):
        raise ValueError(f"{name}: expected a Tree, the path of an SWC file or its text, got {type(item).__name__}")
    if not np.isfinite(item.xyz).all():
        raise ValueError(f"{name}: expected a tree with finite positions, got NaN or infinite ones")
    try:
        item.parent_index  # noqa: B018  # finding it checks it
    except SWCError as error:
        raise ValueError(f"{name}: {error}") from error
    return item


def _parsed(text: str, name: str, mend_structure: bool) -> Tree:
    """SWC text as a tree: what `read_swc` says of it, with a name instead of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(text.encode("utf-8", errors="replace"))
        here = folder + os.sep
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                tree = read_swc(path, mend_structure=mend_structure)
            except SWCError as error:
                raise SWCError(str(error).removeprefix(here)) from None
    for warning in caught:
        warnings.warn(str(warning.message).removeprefix(here), stacklevel=2)
    return tree


def _pack_tree(tree: Tree) -> bytes:
    return pack(ids=tree.ids, types=tree.types, xyz=tree.xyz, radii=tree.radii, parents=tree.parents)
