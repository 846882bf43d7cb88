"""Which tree belongs to which image, by their names alone."""

import csv
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.data.pairing import find_candidates, is_image_name, neuron_id


IMG = "g/s/n.v3dpbd"


def pairs(*files, **annotations) -> dict[str, str]:
    """image -> the tree that is taken."""
    found, _ = find_candidates(files, annotations.get("annotations"))
    return {one.image: one.trees[0] for one in found}


@pytest.mark.parametrize(
    "tree",
    [
        "n.v3dpbd.ano_stamp_2015_06_17_11_23.swc",
        "n.v3dpbd_stamp_2015_06_17_11_23.swc",
        "n.v3dpbd.ano_stamp_2015_06_17_11_23.swc_sorted.swc",
        "n.v3dpbd_stamp_2015_06_17_11_23.swc_sorted.swc_sorted.swc",
        "n.v3dpbd.ano_stamp_2015_06_17_11_23_sorted.swc",
        "n.v3dpbd.neuron1.ano_stamp_2015_06_17_11_23.swc",
        "n.v3dpbd.ano_stamp_201506_17_11_23.swc",  # malformed
        "n.v3dpbd.swc",
        "00_sorted_n.v3dpbd.swc",
        "n.swc",
        "N.V3DPBD.eswc",
    ],
)
def test_every_name_of_a_gold_tree(tree):
    """Beside another image with its own tree, so that being alone cannot decide."""
    assert (
        pairs(IMG, f"g/s/{tree}", "g/s/other.v3dpbd", "g/s/other.v3dpbd.swc", "g/s/n.v3dpbd.ano")[IMG] == f"g/s/{tree}"
    )


def test_sorted_goes_before_stamped_before_plain_and_the_rest_is_told():
    base, old, new = (
        "g/s/n.v3dpbd.swc",
        "g/s/n.v3dpbd.ano_stamp_2014_01_01_01_01.swc",
        "g/s/n.v3dpbd.ano_stamp_2015_01_01_01_01.swc",
    )
    ready = old + "_sorted.swc"
    (found,), _ = find_candidates([IMG, base, old, new, ready])
    assert found.trees == (ready, new, old, base)
    assert set(found.passed_over) == {new, old, base} and "goes before it" in found.passed_over[base]
    assert pairs(IMG, base, old, new)[IMG] == new
    assert pairs(IMG, base, old)[IMG] == old


def test_the_annotation_file_decides_between_stamps():
    old, new = "g/s/n.v3dpbd.ano_stamp_2014_01_01_01_01.swc", "g/s/n.v3dpbd.ano_stamp_2015_01_01_01_01.swc"
    text = f"RAWIMG=n.v3dpbd\nSWCFILE={old.split('/')[-1]}\n"
    assert pairs(IMG, old, new, "g/s/n.v3dpbd.ano", annotations={"g/s/n.v3dpbd.ano": text})[IMG] == old


def test_brackets_quotes_and_blanks_are_written_otherwise_in_trees():
    image = "g/s/Result_of_C1-CL-I(X-Mas)_v'pda 2.tif.v3dpbd"
    tree = "g/s/Result_of_C1-CL-I_X-Mas__v_pda_2.tif.v3dpbd.ano_stamp_2015_06_17_10_44.swc"
    assert pairs(image, tree, "g/s/b.tif", "g/s/b.swc")[image] == tree


def test_the_longest_name_owns_the_tree():
    assert pairs("a.tif", "a_stamp_1.tif", "a.swc", "a_stamp_1.swc") == {
        "a.tif": "a.swc",
        "a_stamp_1.tif": "a_stamp_1.swc",
    }


def test_a_single_image_takes_the_single_tree_whatever_its_name():
    assert pairs("s/image.tif", "s/trace.swc") == {"s/image.tif": "s/trace.swc"}
    found, left_out = find_candidates(["s/image.tif", "s/one.swc", "s/two.swc"])
    assert not found and set(left_out) == {"s/image.tif", "s/one.swc", "s/two.swc"}
    assert "2 trees lie beside it and none is named after it: one.swc, two.swc" in left_out["s/image.tif"]


def test_two_gold_trees_are_not_guessed():
    twins = [f"s/n.v3dpbd.neuron{i}.ano_stamp_2015_01_01_01_01.swc" for i in (1, 2)]
    found, left_out = find_candidates(["s/n.v3dpbd", *twins])
    assert not found and "2 neurons" in left_out["s/n.v3dpbd"]
    same = ["s/n.v3dpbd.swc", "s/n.swc"]
    found, left_out = find_candidates(["s/n.v3dpbd", *same])
    assert not found and "2 trees are equally good" in left_out["s/n.v3dpbd"] and set(same) < set(left_out)


def test_images_and_trees_in_folders_of_their_own():
    assert pairs("images/a.tif", "images/b.tif", "swc/a.swc", "swc/b_stamp_1.swc") == {
        "images/a.tif": "swc/a.swc",
        "images/b.tif": "swc/b_stamp_1.swc",
    }
    found, left_out = find_candidates(["images/a.tif", "x/a.swc", "y/a.swc"])
    assert not found and "more than one may be meant" in left_out["images/a.tif"]


def test_halves_of_pairs_are_told():
    found, left_out = find_candidates(["a/x.tif", "b/y.swc", "c/z.tif", "c/z.v3draw", "c/z.swc"])
    assert [one.image for one in found] == ["c/z.tif"]
    assert left_out == {
        "a/x.tif": "an image without a tree",
        "b/y.swc": "a tree without an image",
        "c/z.v3draw": "the same stack as z.tif, which is taken",
    }


def test_the_file_with_the_voxel_size():
    (found,), _ = find_candidates(["s/n.v3dpbd", "s/n.v3dpbd.swc", "s/n.v3dpbd.pixelsize.txt", "s/readme.txt"])
    assert found.pixel_size == "s/n.v3dpbd.pixelsize.txt"
    (found,), _ = find_candidates(["s/n.v3dpbd", "s/n.v3dpbd.swc", "s/any.pixelsize.txt"])
    assert found.pixel_size == "s/any.pixelsize.txt"


def test_ids():
    assert neuron_id("gold166/p_x/err_n/n.v3dpbd") == "p_x/err_n/n"
    assert neuron_id("gold166/p_x/n/n.v3dpbd") == neuron_id("p_x/n/n.ome.tif") == "p_x/n/n"
    assert neuron_id("p_x/n/image.tif") == neuron_id("p_x/n.ome.tif") == "p_x/n"
    assert neuron_id("image.tif") == "image" and neuron_id("mine/gold166/a.tif") == "mine/gold166/a"
    assert is_image_name("a/b.TIF") and not is_image_name("a/b.mask.tif") and not is_image_name("a/b.txt")


def ids(*images) -> dict[str, str]:
    """image -> id, with a tree beside each."""
    found, _ = find_candidates([*images, *(f"{image}.swc" for image in images)])
    assert len({one.neuron_id for one in found}) == len(found)
    return {one.image: one.neuron_id for one in found}


def test_ids_are_unique():
    assert ids("a.tif", "a/a.tif") == {"a.tif": "a", "a/a.tif": "a/a"}
    assert ids("c.tif", "c/image.tif") == {"c.tif": "c", "c/image.tif": "c/image"}
    assert ids("c/image.tif", "d.tif") == {"c/image.tif": "c", "d.tif": "d"}
    assert ids("c.tif", "c/image.tif", "c/image/image.tif")["c/image/image.tif"] == "c/image/image"
    assert ids("c.tif", "gold166/c.tif") == {"c.tif": "c", "gold166/c.tif": "gold166/c"}


def test_letters_are_not_mixed_up():
    assert pairs("Ä.tif", "Ö.tif", "Ö.swc") == {"Ö.tif": "Ö.swc"}
    assert pairs("神経1.tif", "細胞1.tif", "細胞1.swc") == {"細胞1.tif": "細胞1.swc"}
    assert pairs("A.tif", "a.tif", "a.swc") == {"a.tif": "a.swc"}
    assert pairs("A.tif", "a.tif", "a.swc", "A.swc") == {"a.tif": "a.swc", "A.tif": "A.swc"}
    assert pairs("a.tif", "a.swc", "A.swc") == {"a.tif": "a.swc"}
    assert pairs("B.tif", "b.swc", "Straße.tif", "STRASSE.swc") == {"B.tif": "b.swc", "Straße.tif": "STRASSE.swc"}
    composed, decomposed = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))
    assert pairs(f"{composed}.tif", f"{decomposed}.swc", "x.tif") == {f"{composed}.tif": f"{decomposed}.swc"}


def test_a_loose_comparison_counts_only_where_one_image_fits():
    assert pairs("a (1).tif", "b.tif", "a__1_.swc") == {"a (1).tif": "a__1_.swc"}
    found, left_out = find_candidates(["a (1).tif", "a [1].tif", "a__1_.swc"])
    assert not found and left_out["a__1_.swc"] == "a tree without an image"
    found, left_out = find_candidates(["Ab.tif", "aB.tif", "ab.swc"])
    assert not found and "not the only image that may be meant by ab.swc" in left_out["Ab.tif"]


def test_a_tree_that_was_sorted_later_counts_as_sorted():
    (found,), _ = find_candidates(["X.tif", "X.swc", "00_sorted_X.swc"])
    assert found.trees == ("00_sorted_X.swc", "X.swc") and "sorted 00_sorted_X.swc" in found.passed_over["X.swc"]
    assert pairs("X.tif", "X_sorted.swc", "00_sorted_X.swc", "00_sorted_X_sorted.swc") == {
        "X.tif": "00_sorted_X_sorted.swc"
    }
    assert pairs("X.tif", "X_sorted.swc", "00_sorted_X.swc") == {"X.tif": "00_sorted_X.swc"}
    assert pairs("00_sorted_X.tif", "00_sorted_X.swc", "X.tif", "X.swc")["00_sorted_X.tif"] == "00_sorted_X.swc"


def test_a_tree_of_another_name_is_told():
    (found,), _ = find_candidates(["s/image.tif", "s/trace.swc"])
    assert found.note == "trace.swc is not named after the image"
    (found,), _ = find_candidates(["s/image.tif", "s/image.swc"])
    assert found.note is None and not found.passed_over


@pytest.mark.parametrize(
    "name",
    "consensus app2 n_app1 n.v3dpbd_x12_app2 n_auto n.v3dpbd_MOST n_neutube n_Snake_1 N_APP2 00_sorted_n_app2".split(),
)
def test_automatic_tracings_are_never_gold(name):
    tree = f"s/{name}.swc"
    found, left_out = find_candidates(["s/n.v3dpbd", tree])
    assert not found and "automatic" in left_out[tree]
    assert left_out["s/n.v3dpbd"] == f"no gold tree, only automatic tracings by their names: {name}.swc"
    for gold in ("s/n.v3dpbd.swc", "s/trace.swc"):
        (found,), left_out = find_candidates(["s/n.v3dpbd", gold, tree])
        assert found.trees == (gold,) and not left_out
        assert found.passed_over == {tree: "an automatic tracing, by its name"}


def test_an_image_may_be_called_automatic():
    assert pairs("s/x_auto.tif", "s/x_auto.swc", "s/y_MOST.tif", "s/y_MOST_sorted.swc") == {
        "s/x_auto.tif": "s/x_auto.swc",
        "s/y_MOST.tif": "s/y_MOST_sorted.swc",
    }


def test_other_trees_beside_an_image_are_told_with_it():
    files = ["a.tif", "a.swc", "a_app2.swc", "a_draft.swc", "b.tif", "b.swc", "consensus.swc", "c.tif", "c_app2.swc"]
    found, left_out = find_candidates(files)
    assert {one.image: set(one.passed_over) for one in found} == {
        "a.tif": {"a_app2.swc", "a_draft.swc"},
        "b.tif": set(),
    }
    assert set(left_out) == {"consensus.swc", "c.tif", "c_app2.swc"} and "c_app2.swc" in left_out["c.tif"]
    (found,), left_out = find_candidates(["images/a.tif", "images/a_app2.swc", "swc/a.swc"])
    assert found.trees == ("swc/a.swc",) and set(found.passed_over) == {"images/a_app2.swc"} and not left_out


def test_the_annotation_file_decides_where_names_say_nothing():
    files = ["s/image.tif", "s/final.swc", "s/draft.swc", "s/image.tif.ano"]
    text = "RAWIMG=C:\\data\\image.tif\r\nSWCFILE=C:\\data\\final.swc\r\n"
    (found,), left_out = find_candidates(files, {"s/image.tif.ano": text})
    assert found.trees == ("s/final.swc",) and set(found.passed_over) == {"s/draft.swc"} and not left_out
    assert found.note == "final.swc is not named after the image, but image.tif.ano names it"
    two = ["a.tif", "b.tif", "one.swc", "two.swc"]
    annotations = {"a.tif.ano": "SWCFILE=two.swc", "other.ano": "RAWIMG=b.tif\nSWCFILE=one.swc"}
    assert pairs(*two, annotations=annotations) == {"a.tif": "two.swc", "b.tif": "one.swc"}
    assert not pairs("s/n.tif", "s/n_app2.swc", annotations={"s/n.ano": "SWCFILE=n_app2.swc"})


def test_an_annotation_file_that_names_an_absent_tree_is_told():
    (found,), _ = find_candidates(["s/n.tif", "s/n.swc"], {"s/n.tif.ano": "SWCFILE=gone.swc\n"})
    assert found.trees == ("s/n.swc",) and found.note == "n.tif.ano names gone.swc, which is absent"
    _, left_out = find_candidates(["s/n.tif"], {"s/n.tif.ano": "SWCFILE=gone.swc\n"})
    assert left_out["s/n.tif"] == "an image without a tree; n.tif.ano names gone.swc, which is absent"


def test_the_longest_common_tail_decides_across_folders():
    assert pairs("images/m1/a.tif", "images/m2/a.tif", "swc/m1/a.swc", "swc/m2/a.swc") == {
        "images/m1/a.tif": "swc/m1/a.swc",
        "images/m2/a.tif": "swc/m2/a.swc",
    }
    (found,), _ = find_candidates(["images/m1/a.tif", "swc/m1/a.swc", "swc/m1/a_stamp_1.swc", "old/a_sorted.swc"])
    assert found.trees == ("swc/m1/a_stamp_1.swc", "swc/m1/a.swc")
    assert "more like the image's" in found.passed_over["old/a_sorted.swc"]
    found, left_out = find_candidates(["m1/a.tif", "m2/a.tif", "swc/a.swc"])
    assert not found and "not the only image" in left_out["m1/a.tif"]
    # A tree of an image that has one is not given to its namesake.
    found, left_out = find_candidates(["i/m1/a.tif", "i/m1/a.swc", "i/m2/a.tif", "swc/m1/a.swc"])
    assert [one.image for one in found] == ["i/m1/a.tif"] and "has another one" in left_out["swc/m1/a.swc"]


FOLDERS = st.sampled_from(["", "a/", "a/b/", "c/b/", "gold166/"])
STEMS = st.sampled_from(
    ["a", "A", "a b", "a_b", "image", "00_sorted_a", "a_stamp_1", "a_app2", "a.neuron1", "a.tif", "x"]
)
SUFFIXES = st.sampled_from([".tif", ".v3draw", ".swc", ".tif.swc", "_sorted.swc", ".eswc"])


@settings(deadline=None, max_examples=300)
@given(names=st.sets(st.builds("{}{}{}".format, FOLDERS, STEMS, SUFFIXES), max_size=14), text=STEMS)
def test_every_image_and_tree_is_told_once(names, text):
    annotations = {"a.ano": f"SWCFILE={text}.swc", "a/a.ano": f"SWCFILE={text}.swc"}
    found, left_out = find_candidates(names, annotations)
    told = [*left_out]
    for one in found:
        told += [one.image, *{*one.trees, *one.passed_over}]
        assert set(one.trees[1:]) <= set(one.passed_over) and one.trees[0] not in one.passed_over
    assert sorted(told) == sorted(names) and all(left_out.values())
    assert len({one.neuron_id for one in found}) == len(found)
    assert find_candidates(reversed(sorted(names)), annotations) == (found, left_out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("{i}.tif", "{i}.swc"),
        ("n{i}/stack.tif", "n{i}/trace.swc"),
        ("images/{i}.tif", "swc/{i}.swc"),
        ("images/n{i}/stack.tif", "swc/n{i}/stack.swc"),
    ],
)
def test_many_pairs_take_little_time(names):
    files = [name.format(i=f"neuron_{i:05}") for i in range(3000) for name in names]
    start = time.perf_counter()
    found, left_out = find_candidates(files)
    assert len(found) == 3000 and not left_out
    assert time.perf_counter() - start < 5  # far less, unless every tree is compared with every image


@pytest.mark.real_data
def test_every_name_of_the_release(shared):
    """163 images of the release under their real names; each with worse trees beside the gold one."""
    files, gold = [], {}
    with (shared / "data" / "gold166_layout.csv").open() as table:
        for row in csv.DictReader(table):
            sample, image = row["checked3_path"].split("/")[-2:]
            folder = f"gold166/{row['release_group_dir'] or 'p_checked9_somewhere'}/{sample}"
            tree = row["gold_swc"].split("_sorted_", 1)[1]
            worse = {f"{image}.swc", tree.partition(".swc_sorted")[0] + ".swc"} - {tree}
            if "stamp" in tree or "sorted" in tree:
                files += [f"{folder}/{name}" for name in worse if name.endswith(".swc") and ".swc_sorted" not in name]
            files += [f"{folder}/{image}", f"{folder}/{tree}", f"{folder}/{image}.ano"]
            gold[f"{folder}/{image}"] = f"{folder}/{tree}"
    assert len(gold) == 163
    assert pairs(*set(files)) == gold
