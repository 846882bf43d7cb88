"""The benchmark on real neurons: its filters, its figures, its tables, and that it takes up where it was left."""

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import Volume, rasterize, synthetic_neuron, write_volume
from neuron_vit3d.morphology import Tree
from support.places import REPOSITORY
from support.tubes import line, picture_of


sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import real_neurons
from real_neurons_figures import score_figures, tiles_of, tree_figures, wrong_length_inside
from real_neurons_filters import above_background, background_subtraction, sato, two_largest_eigenvalues
from real_neurons_methods import EMPTY, Scorer, load_model, our_tree
from real_neurons_stacks import find_stacks
from real_neurons_tables import COLUMNS, difference_table, interval, mean_table, stack_table, tables


SHAPE = (16, 40, 48)
TUBE = line([6, 20, 8], [42, 20, 8], 3.0)


def test_sato_is_scikit_images():
    from skimage.filters import sato as theirs

    image = picture_of(TUBE, (12, 40, 48), noise=10)
    expected = theirs(image, sigmas=[1, 2, 3], black_ridges=False)
    np.testing.assert_allclose(sato(image), expected, atol=1e-4 * expected.max())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_eigenvalues(seed):
    matrices = (
        np.random.default_rng(seed).integers(-3, 4, (50, 3, 3)).astype(np.float32)
    )  # equal ones and zeros among them
    matrices += matrices.swapaxes(1, 2)
    largest, middle = two_largest_eigenvalues(*(matrices[:, i, j] for i, j in zip(*np.triu_indices(3), strict=True)))
    expected = np.linalg.eigvalsh(matrices)
    np.testing.assert_allclose(np.stack([middle, largest]).T, expected[:, 1:], atol=0.01)


def test_filters_find_a_bright_line():
    image = picture_of(TUBE, SHAPE, noise=2)
    for respond in (sato, background_subtraction):
        response = respond(image)
        tree = our_tree(response, above_background(response), Volume(image), is_probability=False)
        assert tree_figures(tree, TUBE, SHAPE)["f1"] > 0.8
    assert our_tree(np.zeros(SHAPE), 1.0, Volume(image), is_probability=False) is EMPTY


def test_wrong_length_inside_the_gold_tube():
    gold = line([0, 20, 8], [47, 20, 8], 4.0)
    beside = replace(gold, xyz=gold.xyz + np.array([0, 5.0, 0]))  # in the tube dilated by 2
    away = replace(gold, xyz=gold.xyz + np.array([0, 10.0, 0]))
    assert wrong_length_inside(beside, gold, SHAPE) == 1 and wrong_length_inside(away, gold, SHAPE) == 0
    assert math.isnan(wrong_length_inside(gold, gold, SHAPE)) and math.isnan(wrong_length_inside(EMPTY, gold, SHAPE))
    both = Tree.from_parents(np.vstack([beside.xyz, away.xyz]), np.ones(4), [-1, 0, -1, 2])
    assert wrong_length_inside(both, gold, SHAPE) == pytest.approx(0.5)


def test_what_nobody_traced_far_away_is_left_out_in_tiles():
    shape = (2, 260, 300)
    gold = line([10, 20, 0], [100, 20, 0], 1.0)
    scores = rasterize(gold, shape).astype(np.float32) / 2
    scores[:, 200:, 250:] = 1
    figures = score_figures(scores, gold)
    assert figures["average_precision"] < 0.2 and figures["average_precision_tiles"] == 1
    tiles = tiles_of(scores == 1)
    assert tiles.shape == shape and tiles[:, 192:, 192:].all()
    assert not tiles[:, :192].any() and not tiles[:, :, :192].any()


def some_lines() -> list[dict]:
    rng, keys = np.random.default_rng(0), [key for key, _ in COLUMNS.values()]
    return [
        {"stack": f"{group}_{i}", "group": group, "method": method, **{key: rng.random() + bonus for key in keys}}
        for group, count in (("tuff", 4), ("other", 2), ("synthetic", 3))
        for i in range(count)
        for method, bonus in (("sato", 0.0), ("default", 2.0))
    ]


def test_tables_of_means_differences_and_stacks():
    lines = some_lines()
    lines[0]["esa"] = math.nan
    means = mean_table(lines, ["default", "sato"])
    assert [row.split(" | ")[:2] for row in means[2:4]] == [["| tuff (4)", "default"], ["| tuff (4)", "sato"]]
    own = np.mean([one["f1"] for one in lines if one["group"] == "tuff" and one["method"] == "default"])
    assert means[2].split(" | ")[2] == f"{own:.3f}"
    assert [row.split(" | ")[0] for row in means[4:6]] == ["| all real (6)"] * 2
    differences = difference_table(lines, "default", "sato")
    f1, _, _, esa = differences[2].split(" | ")[1:5]
    assert f1.endswith("4 of 4") and esa.endswith("0 of 3") and f1.startswith("+")
    assert len(stack_table(lines, ["default", "sato"])) == 2 + 18
    text = "\n".join(tables(lines, "default"))
    assert "## default less sato" in text and text.index("## Means") < text.index("## Stacks")


def test_the_interval_of_a_mean():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.5, 1, 400)
    low, high = interval(differences)
    assert low < differences.mean() < high and high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert interval(np.full(5, 0.25)) == (0.25, 0.25)


@pytest.fixture
def data_dir(tmp_path):
    """Two tiny stacks as the real ones lie there."""
    for i, name in enumerate(("tuff_a", "b")):
        neuron = synthetic_neuron((8, 48, 48), seed=i, quality="clean")
        (tmp_path / "data" / name).mkdir(parents=True)
        write_volume(tmp_path / "data" / name / "image.tif", neuron.volume)
        neuron.tree.write(tmp_path / "data" / name / "trace.swc")
    return tmp_path / "data"


def test_stacks_are_found_and_told_apart(data_dir):
    stacks = find_stacks(data_dir, 2)
    assert [(stack.name, stack.group) for stack in stacks] == [
        ("b", "other"),
        ("tuff_a", "tuff"),
        ("synthetic_00", "synthetic"),
        ("synthetic_01", "synthetic"),
    ]
    assert len({stack.fingerprint() for stack in stacks}) == 4
    assert [stack.name for stack in find_stacks(data_dir, 2, ["b"])] == ["b"]
    with pytest.raises(ValueError, match="there is no c"):
        find_stacks(data_dir, 0, ["c"])
    with pytest.raises(ValueError, match="found none"):
        find_stacks(data_dir / "b")


@pytest.mark.slow
def test_what_is_measured_is_kept_and_not_measured_again(data_dir, tmp_path, monkeypatch):
    measured = []

    class Pool:
        """Works in this process."""

        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, work, task):
            from concurrent.futures import Future

            done = Future()
            measured.append((task.stack.name, task.scorer.name))
            done.set_result(work(task))
            return done

    monkeypatch.setattr(real_neurons, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(Scorer, "_scores", lambda scorer, volume: volume.array / np.float32(255))
    options = {"data_dir": data_dir, "synthetic": 0, "output": tmp_path / "out" / "real", "cache": tmp_path / "cache"}
    real_neurons.main(**options, overlays=tmp_path / "pictures")
    assert len(measured) == 6 and len(list((tmp_path / "pictures").iterdir())) == 6
    assert len(list((tmp_path / "cache").iterdir())) == 6
    lines = [json.loads(text) for text in (tmp_path / "out" / "real.jsonl").read_text().splitlines()]
    assert {(line["stack"], line["method"]) for line in lines} == {
        (stack, method) for stack in ("b", "tuff_a") for method in ("default", "sato", "background")
    }
    table = (tmp_path / "out" / "real.md").read_text()
    real_neurons.main(**options)
    assert len(measured) == 6
    kept = (tmp_path / "out" / "real.md").read_text()
    assert kept.split("## Means")[1] == table.split("## Means")[1]
    real_neurons.main(**options, thresholds=[0.3])
    assert sorted(measured[6:]) == [("b", "default"), ("tuff_a", "default")]
    real_neurons.main(**options, threshold=0.4)
    assert len(measured) == 10
    with open(tmp_path / "out" / "real.jsonl", "a") as file:
        file.write('{"stack": "b", "meth')  # cut off
    with pytest.warns(UserWarning, match="no JSON"):
        real_neurons.main(**options, threshold=0.4)
    assert len(measured) == 10
    real_neurons.main(**options, again=True)
    assert len(measured) == 16


@pytest.mark.slow
def test_without_the_off_center_kernels():
    whole, center = load_model(None), load_model(None, center_only=True)
    kernels = [segmenter.model.encoder.patch_embedding_3d for segmenter in (whole, center)]
    assert (kernels[1][:, :, [0, 1, 3, 4]] == 0).all() and (kernels[1][:, :, 2] == kernels[0][:, :, 2]).all()
    assert (kernels[0][:, :, 0] != 0).any()
