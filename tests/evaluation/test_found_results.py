"""What lies in a folder of results is put together by the image that it was made of."""

import pytest

from neuron_vit3d.evaluation.found_results import find_results


NODES = "1 0 1 1 1 1 -1\n2 0 9 1 1 1 1\n"


def put(folder, **texts):
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)


def told(folder):
    return {one.name: [path.name for path in one.trees] for one in find_results(folder)}


def test_files_of_an_image_are_found_together(tmp_path):
    own = f"# traced by neuron-vit3d from a.tif\n{NODES}"
    put(tmp_path, a__mask__tif="", a__scores__tif="", a__swc=own, a__branches__csv="", b__swc=own, summary__csv="")
    put(tmp_path, a__gold__swc=NODES, other__swc=NODES, hand__png="", a__png="a picture made by hand")
    assert told(tmp_path) == {"a": ["a.swc"], "b": ["b.swc"]}
    found = find_results(tmp_path)[0]
    assert found.mask.name == "a.mask.tif" and found.picture is None
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n made by neuron-vit3d")
    assert find_results(tmp_path)[0].picture.name == "a.png"


def test_several_trees_of_an_image(tmp_path):
    own = f"# traced by neuron-vit3d from a.scores.tif\n{NODES}"
    put(tmp_path, **{f"a_{i}__swc": own for i in (1, 2, 10)})
    assert told(tmp_path) == {"a": ["a_1.swc", "a_2.swc", "a_10.swc"]}
    put(tmp_path, a_2__mask__tif="")  # of an image of its own
    assert told(tmp_path) == {"a": ["a_1.swc", "a_10.swc"], "a_2": ["a_2.swc"]}


def test_a_tree_that_was_corrected_is_of_its_mask(tmp_path):
    put(tmp_path, a__mask__tif="", a__swc=NODES, b__swc=NODES)
    assert told(tmp_path) == {"a": ["a.swc"]}


def test_nothing_and_no_folder(tmp_path):
    assert find_results(tmp_path) == []
    with pytest.raises(OSError, match="no such folder"):
        find_results(tmp_path / "nowhere")
    put(tmp_path, a__swc=NODES)
    with pytest.raises(OSError, match="found a file"):
        find_results(tmp_path / "a.swc")
