"""Which tree belongs to which image, by their names alone."""

import csv

import pytest

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
    assert neuron_id("gold166/p_x/n/n.v3dpbd") == neuron_id("p_x/n/image.tif") == neuron_id("p_x/n.ome.tif") == "p_x/n"
    found, _ = find_candidates(["a.tif", "a.swc", "a/a.tif", "a/a.swc"])
    assert [one.neuron_id for one in found] == ["a", "a/a"]
    assert is_image_name("a/b.TIF") and not is_image_name("a/b.mask.tif") and not is_image_name("a/b.txt")


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
