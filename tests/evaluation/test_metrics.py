"""The `evaluate` modules: they say what the plain functions say, of whatever stands for a mask or a tree."""

import doctest
import os
import re
import sys
import warnings
from pathlib import Path

import evaluate
import numpy as np
import pytest
from huggingface_hub import SpaceCard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neuron_vit3d import Tree, Volume, read_swc, segmentation_scores, tree_distance, write_volume
from neuron_vit3d.evaluation import ranking_scores
from neuron_vit3d.evaluation.metrics import METRICS
from support import processes


SHAPES = st.tuples(*[st.integers(1, 6)] * 3)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(bool, shape)] * 2))
NUMBERS = st.sampled_from([bool, np.uint8, ">u2", np.int64, np.float32, np.float64])
KEYS = ["dice", "precision", "recall", "f1", "iou", "hd95", "cldice"]

LINE = "1 0 0 0 0 1 -1\n2 0 10 0 0 1 1\n"
BESIDE = "1 0 0 1 0 1 -1\n2 0 10 1 0 1 1\n"
FORK = "# forks\n1 1 0 0 0 1 -1\n2 3 10 0 0 1 1\n3 3 15 4 0 1 2\n4 3 15 -4 3 1 2\n"
EMPTY = Tree.from_parents(np.empty((0, 3)), [], [])


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """What `evaluate` copies and stores goes to a temporary folder and is forgotten afterwards."""
    folder = tmp_path_factory.mktemp("evaluate")
    path, modules = list(sys.path), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", folder / "metrics")
        yield folder
    sys.path[:] = path
    for name in {name for name in sys.modules if name.split(".")[0] == "evaluate_modules"} - modules:
        del sys.modules[name]


@pytest.fixture(scope="module")
def masks():
    return evaluate.load(str(METRICS["neuron_segmentation"]))


@pytest.fixture(scope="module")
def trees():
    return evaluate.load(str(METRICS["tree_distance"]))


def some_masks(count=3, seed=0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predictions and references of differing shapes."""
    rng = np.random.default_rng(seed)
    pairs = [rng.random((2, 4 + i, 6, 9 - i)) < 0.4 for i in range(count)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def plain(predictions, references, **options) -> list[dict]:
    return [segmentation_scores(*pair, **options) for pair in zip(predictions, references, strict=True)]


def swc(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# masks


@settings(max_examples=40, deadline=None)
@given(st.lists(PAIRS, min_size=1, max_size=3), NUMBERS, NUMBERS)
def test_masks_score_as_by_the_plain_function(masks, pairs, predicted_dtype, gold_dtype):
    expected = plain(*zip(*pairs, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = masks.compute(
            predictions=[predicted.astype(predicted_dtype) for predicted, _ in pairs],
            references=[gold.astype(gold_dtype) * 3 for _, gold in pairs],
        )
    if np.dtype(predicted_dtype).kind == "f":
        for scores, (predicted, gold) in zip(expected, pairs, strict=True):
            scores |= ranking_scores(predicted, gold)
        assert result["average_precision"] == pytest.approx(np.mean([one["average_precision"] for one in expected]))
    assert list(result) == [*expected[0], "hd95_infinite", "by_volume"]
    for scores, one in zip(result["by_volume"], expected, strict=True):
        assert scores == pytest.approx(one, rel=1e-12, nan_ok=True)
    finite = [scores["hd95"] for scores in expected if np.isfinite(scores["hd95"])]
    assert result["hd95_infinite"] == len(expected) - len(finite)
    assert result["hd95"] == pytest.approx(np.mean(finite) if finite else np.inf)
    for key in set(KEYS) - {"hd95"}:
        assert result[key] == pytest.approx(np.mean([scores[key] for scores in expected]))


def test_whatever_stands_for_a_mask(masks, tmp_path):
    (predicted,), (gold,) = some_masks(1)
    expected = masks.compute(predictions=[predicted], references=[gold])
    scores = np.where(gold, 0.5, 0.49).astype(np.float32)
    for i, volume in enumerate((gold, gold.astype(np.uint16) * 7, scores)):
        files = [
            write_volume(tmp_path / f"{i}{suffix}", Volume(volume, (2.0, 1.0, 1.0))) for suffix in (".tif", ".npy")
        ]
        for form in (volume, volume[..., ::-1].copy()[..., ::-1], Volume(volume), Volume(volume[None]), *files):
            assert masks.compute(predictions=[predicted], references=[form]) == expected
        assert masks.compute(predictions=[predicted], references=[str(files[0])]) == expected
    assert masks.compute(predictions=[predicted.tolist()], references=[gold.astype(int).tolist()]) == expected
    assert masks.compute(predictions=predicted[None], references=gold[None]) == expected
    files[0].unlink()


def test_torch_tensors_are_masks(masks):
    torch = pytest.importorskip("torch")
    (predicted,), (gold,) = some_masks(1)
    result = masks.compute(predictions=[torch.from_numpy(predicted)], references=torch.from_numpy(gold)[None])
    assert result["by_volume"] == plain([predicted], [gold])


def test_masks_added_one_by_one_or_in_batches(masks):
    predictions, references = some_masks(4)
    expected = masks.compute(predictions=predictions, references=references)
    for predicted, gold in zip(predictions, references, strict=True):
        masks.add(prediction=predicted, reference=gold)
    assert len(masks) == 4
    assert masks.compute() == expected
    masks.add_batch(predictions=predictions[:3], references=references[:3])
    assert masks.compute(predictions=predictions[3:], references=references[3:]) == expected
    assert len(masks) == 0
    in_memory = evaluate.load(str(METRICS["neuron_segmentation"]), keep_in_memory=True)
    assert in_memory.compute(predictions=predictions, references=references) == expected


def test_masks_are_stored_in_little_space_and_not_for_long(masks, cache):
    gold = np.zeros((64, 64, 64), bool)
    gold[8:10, 8:24, 16] = True
    predicted, reference = masks._packed(gold, gold.astype(np.float64), ("prediction", "reference"))
    assert len(predicted) < gold.size / 100 and len(reference) < gold.size / 20
    for _ in range(2):
        masks.add_batch(predictions=[gold] * 4, references=[gold] * 4)
    assert len(list(cache.rglob("*.arrow"))) == 1
    result = masks.compute()
    assert len(result["by_volume"]) == 8 and result["dice"] == 1.0
    assert not list(cache.rglob("*.arrow"))


def test_voxel_size(masks):
    predictions, references = some_masks(2)
    size = (0.5, 0.1, 0.1)
    result = masks.compute(predictions=predictions, references=references, voxel_size=np.array(size))
    assert result["by_volume"] == plain(predictions, references, voxel_size=size)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_an_ignored_label_is_left_out(masks, dtype):
    rng = np.random.default_rng(1)
    predicted = rng.random((5, 6, 7)) < 0.5
    labels = rng.choice([0, 1, 255], (5, 6, 7)).astype(dtype)
    expected = segmentation_scores(predicted, labels == 1, ignore=labels == 255)
    assert masks.compute(predictions=[predicted], references=[labels], ignore_index=255)["by_volume"] == [expected]
    elsewhere = np.where(labels == 255, ~predicted, predicted)
    result = masks.compute(predictions=[elsewhere], references=[labels], ignore_index=np.int64(255))
    assert [result[key] for key in KEYS[:5]] == [expected[key] for key in KEYS[:5]]
    not_ignored = masks.compute(predictions=[predicted], references=[labels])
    assert not_ignored["by_volume"] == [segmentation_scores(predicted, labels)]


def test_an_empty_mask_does_not_hide_the_other_distances(masks):
    predictions, references = some_masks(3)
    predictions[1] = np.zeros_like(predictions[1])
    expected = plain(predictions, references)
    with pytest.warns(UserWarning, match=r"hd95 is infinite in 1 of 3 volumes"):
        result = masks.compute(predictions=predictions, references=references)
    assert result["hd95"] == pytest.approx((expected[0]["hd95"] + expected[2]["hd95"]) / 2)
    assert result["hd95_infinite"] == 1
    assert result["by_volume"][1]["hd95"] == np.inf
    assert result["dice"] == pytest.approx(np.mean([scores["dice"] for scores in expected]))  # it counts as 0
    with pytest.warns(UserWarning, match="1 of 1"):
        assert masks.compute(predictions=predictions[1:2], references=references[1:2])["hd95"] == np.inf


GOOD = np.ones((2, 3, 4), bool)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([GOOD, GOOD[:1]], [GOOD, GOOD], r"one shape .* predictions\[1\] \(1, 3, 4\) and references\[1\] \(2, 3, 4\)"),
        (
            [GOOD[0]],
            [GOOD],
            r"predictions\[0\]: expected a mask with axes \(z, y, x\), got a ndarray of shape \(3, 4\)",
        ),
        (GOOD, GOOD, r"predictions\[0\]: expected a mask .* shape \(3, 4\)"),
        ([GOOD], [GOOD[None]], r"references\[0\]: expected a mask with axes .* shape \(1, 2, 3, 4\)"),
        ([GOOD], [Volume(np.ones((2, 2, 3, 4)))], "has 2 channels"),
        ([GOOD] * 2, [GOOD], "as many predictions as references, got 2 predictions and 1 references"),
        ([], [], "at least one prediction and its reference, got none"),
        ([GOOD], None, "got no references"),
        (None, [GOOD], "got no predictions"),
        (3, [GOOD], "expected a list of predictions, got int"),
        ("mask.tif", "gold.tif", "expected a list of predictions, got one str"),
        (["nowhere.tif"], [GOOD], r"predictions\[0\]: expected a file, and there is no 'nowhere.tif'"),
        ([GOOD], [Path(__file__)], "expected a TIFF, Vaa3D v3draw or v3dpbd, or .npy file"),
        ([GOOD], [Path(__file__).parent], "got a folder"),
        ([GOOD], [None], r"references\[0\]: expected a mask .* got a NoneType"),
        ([GOOD], [[[[1], [1, 2]]]], r"references\[0\]: expected a mask .* got a list"),
        ([GOOD.astype(object)], [GOOD], r"predictions\[0\]: expected bool, integer or real voxels .* got object"),
        ([GOOD.astype(str)], [GOOD], r"predictions\[0\]: expected bool, integer or real voxels"),
        ([GOOD[:0]], [GOOD[:0]], r"predictions\[0\]: expected at least one voxel along every axis"),
        ([np.where(GOOD, np.nan, 0)], [GOOD], r"predictions\[0\]: expected finite voxels, got 24 NaN"),
    ],
)
def test_bad_masks_are_refused_and_nothing_is_added(masks, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        masks.compute(predictions=predictions, references=references)
    with pytest.raises(ValueError, match=message):
        masks.add_batch(predictions=predictions, references=references)
    assert len(masks) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voxel_size": (1, 2)}, r"expected voxel_size z, y, x in micrometres, positive and finite, got \(1, 2\)"),
        ({"voxel_size": (1, 2, 0)}, "expected voxel_size"),
        ({"ignore_index": "255"}, "expected ignore_index to be a label of the references, an int, got '255'"),
        ({"ignore_index": True}, "expected ignore_index"),
    ],
)
def test_bad_options_cost_nothing_that_was_added(masks, options, message):
    masks.add(prediction=GOOD, reference=GOOD)
    with pytest.raises(ValueError, match=message):
        masks.compute(**options)
    with pytest.raises(ValueError, match=r"prediction: expected a mask"):
        masks.add(prediction=GOOD[0], reference=GOOD)
    with pytest.raises(ValueError, match=r"prediction: expected a mask .* got a NoneType"):
        masks.add(reference=GOOD)
    assert masks.compute()["by_volume"] == plain([GOOD], [GOOD])


def test_nothing_added(masks, trees):
    for metric in (masks, trees):
        with pytest.raises(ValueError, match="expected predictions and references, got none here and none were added"):
            metric.compute()


# trees


def test_trees_score_as_by_the_plain_function(trees, tmp_path):
    texts = (BESIDE, LINE), (FORK, LINE), (LINE, FORK)
    pairs = [
        [read_swc(swc(tmp_path / f"{i}{j}.swc", text)) for j, text in enumerate(pair)] for i, pair in enumerate(texts)
    ]
    expected = [tree_distance(*pair, threshold=3.0) for pair in pairs]
    forms = [
        ([pair[0] for pair in texts], [pair[1] for pair in texts]),
        ([pair[0] for pair in pairs], [pair[1] for pair in pairs]),
        ([tmp_path / f"{i}0.swc" for i in range(3)], [str(tmp_path / f"{i}1.swc") for i in range(3)]),
        ([texts[0][0], pairs[1][0], tmp_path / "20.swc"], [pair[1].replace("\n", "\r\n") for pair in texts]),
    ]
    for predictions, references in forms:
        result = trees.compute(predictions=predictions, references=references, threshold=3.0)
        assert result["by_tree"] == expected
        assert list(result) == [*expected[0], "empty_predictions", "by_tree"]
        assert all(result[key] == pytest.approx(np.mean([row[key] for row in expected])) for key in expected[0])
        trees.add(prediction=predictions[0], reference=references[0])
        trees.add_batch(predictions=predictions[1:], references=references[1:])
        assert trees.compute(threshold=3) == result
    result = trees.compute(predictions=[BESIDE], references=[LINE])
    assert (result["esa"], result["f1"], result["threshold"]) == (1.0, 1.0, 2.0)


@st.composite
def some_trees(draw):
    n = draw(st.integers(1, 6))
    xyz = draw(arrays.arrays(float, (n, 3), elements=st.floats(-20, 20)))
    parents = [draw(st.integers(-1, row - 1)) for row in range(n)]
    # Ids that are no rows, and children before their parents.
    return Tree(
        np.arange(n)[::-1] * 3 + 5,
        np.zeros(n, int),
        xyz,
        np.ones(n),
        [(n - 1 - p) * 3 + 5 if p >= 0 else -1 for p in parents],
    )


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(some_trees(), some_trees(), st.sampled_from([0.1, 0.5, 2.0]))
def test_a_tree_is_stored_as_it_is(trees, predicted, gold, threshold):
    result = trees.compute(predictions=[predicted] * 3, references=[gold] * 3, threshold=threshold)
    assert result["by_tree"] == [tree_distance(predicted, gold, threshold=threshold)] * 3
    assert result["threshold"] == threshold


def test_an_empty_prediction_does_not_hide_the_other_distances(trees):
    with pytest.warns(UserWarning, match="1 of 2 predictions have no node"):
        result = trees.compute(predictions=[BESIDE, EMPTY], references=[LINE, LINE])
    assert (result["esa"], result["esa12"], result["dsa"], result["empty_predictions"]) == (1.0, 1.0, 0.0, 1)
    assert (result["precision"], result["recall"], result["f1"], result["pds"]) == (0.5, 0.5, 0.5, 0.5)
    assert np.isnan(result["by_tree"][1]["esa"])
    with pytest.warns(UserWarning, match="1 of 1"):
        result = trees.compute(predictions=[EMPTY], references=[LINE])
    assert np.isnan(result["esa"]) and np.isnan(result["dsa"]) and result["f1"] == 0.0


def test_hand_made_references_are_mended_and_predictions_are_not(trees, tmp_path):
    cut = LINE + "7 0 20 0 0 1 6\n"
    for form, name in ((cut, r"references\[0\]"), (swc(tmp_path / "cut.swc", cut), r".*cut\.swc")):
        with pytest.warns(UserWarning, match=rf"^{name}: "):
            trees.compute(predictions=[LINE], references=[form])
    with pytest.raises(ValueError, match=r"^predictions\[0\]:3: .*parent 6 is not in the tree"):
        trees.compute(predictions=[cut], references=[LINE])


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([LINE, "1 0 0 0 0 1 -1\n2 0 x 0 0 1 1\n"], [LINE] * 2, r"^predictions\[1\]:2: x must be a number, got 'x'"),
        ([LINE], ["1 0 0 0 0\n"], r"^references\[0\]:1: expected 7 columns"),
        (["# nothing\n"], [LINE], r"^predictions\[0\]: no node in the file"),
        ([LINE], [EMPTY], r"references\[0\]: expected a gold tree, got one without nodes"),
        (["nowhere.swc"], [LINE], r"predictions\[0\] .*expected a file, and there is no 'nowhere.swc'"),
        ([LINE.strip().replace("\n", " ")], [LINE], "SWC text has line ends, all else is a path"),
        ([b"1"], [LINE], r"predictions\[0\]: expected a Tree, the path of an SWC file or its text, got bytes"),
        ([None], [LINE], "got NoneType"),
        (LINE, LINE, "expected a list of predictions, got one str"),
        ([LINE], [LINE] * 2, "got 1 predictions and 2 references"),
        (
            [Tree([1], [0], [[0, np.nan, 0]], [1], [-1])],
            [LINE],
            r"predictions\[0\]: expected a tree with finite positions",
        ),
        ([LINE], [Tree([1], [0], [[0, 0, 0]], [1], [9])], r"references\[0\]: node 1: parent 9 is not in the tree"),
    ],
)
def test_bad_trees_are_refused_and_nothing_is_added(trees, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        trees.compute(predictions=predictions, references=references)
    assert len(trees) == 0


def test_a_file_that_is_no_swc_is_named(trees, tmp_path):
    with pytest.raises(ValueError, match=r"bad\.swc:1: expected 7 columns"):
        trees.compute(predictions=[swc(tmp_path / "bad.swc", "1 2 3\n")], references=[LINE])


@pytest.mark.parametrize("threshold", [0, -1.0, float("nan"), "2", None, True])
def test_bad_thresholds_cost_nothing_that_was_added(trees, threshold):
    trees.add(prediction=BESIDE, reference=LINE)
    with pytest.raises(ValueError, match="expected threshold to be a positive number of voxels, got"):
        trees.compute(threshold=threshold)
    assert trees.compute()["esa"] == 1.0


# as modules of evaluate


def test_combined(trees):
    path = str(METRICS["neuron_segmentation"])
    predictions, references = some_masks(2)
    one = evaluate.load(path).compute(predictions=predictions, references=references)
    both = evaluate.combine({"a": evaluate.load(path), "b": evaluate.load(path)})
    expected = {f"{name}_{key}": value for name in "ab" for key, value in one.items()}
    assert both.compute(predictions=predictions, references=references) == expected
    for predicted, gold in zip(predictions, references, strict=True):
        both.add(predicted, gold)
    assert both.compute() == expected
    both.add_batch(predictions, references)
    assert both.compute() == expected
    assert evaluate.combine([path]).compute(predictions=predictions, references=references) == one
    combined = evaluate.combine([trees], force_prefix=True).compute(predictions=[BESIDE], references=[LINE])
    assert combined["tree_distance_esa"] == 1.0


def test_what_they_say_of_themselves(masks, trees):
    assert (masks.name, trees.name) == ("neuron_segmentation", "tree_distance")
    for metric in (masks, trees):
        assert metric.module_type == "metric"
        assert {feature.dtype for feature in metric.features.values()} == {"large_binary"}
        assert metric.description and metric.citation and "Raises:" in metric.compute.__doc__


@pytest.mark.parametrize("name", METRICS)
def test_their_examples_run(name, capsys):
    card = SpaceCard.load(METRICS[name] / "README.md")
    assert card.data.sdk == "gradio" and card.data.license == "apache-2.0" and card.data.tags == ["evaluate", "metric"]
    (example,) = re.findall(r"```python\n(.*?)```", card.content, re.DOTALL)
    exec(compile(example, f"{name}/README.md", "exec"), {})
    module = evaluate.load(str(METRICS[name]))
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    test = parser.get_doctest(module.inputs_description, {}, name, None, 0)
    assert test.examples and runner.run(test).failed == 0, capsys.readouterr().out
    assert f"```bibtex\n{module.citation}```" in card.content


@pytest.mark.slow
def test_in_a_fresh_process_without_a_network(tmp_path):
    script = (
        "import sys, evaluate, numpy as np\n"
        "from neuron_vit3d.evaluation.metrics import METRICS\n"
        "mask = np.ones((2, 3, 4), bool)\n"
        "for name, item in (('neuron_segmentation', mask), ('tree_distance', '1 0 0 0 0 1 -1\\n')):\n"
        "    metric = evaluate.load(str(METRICS[name]))\n"
        "    print(metric.compute(predictions=[item], references=[item])['f1'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = processes.run(["-c", script], env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1.0\n1.0\n"), done.stderr
    assert (tmp_path / "hf" / "modules" / "evaluate_modules").is_dir()
