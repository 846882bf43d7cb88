"""What is known about the release's groups, and what tables and voxel sizes beside the images tell."""

import csv

import pytest

from neuron_vit3d.data.gold166 import Origin, group_of, origin_of, read_origins, read_pixel_size
from neuron_vit3d.data.sources import DataError


def test_groups():
    image = "gold166/p_checked7_taiwan_flycirciut/done_x/x.v3dpbd"
    assert group_of(image) == "p_checked7_taiwan_flycirciut" and group_of("mine/x.tif") is None
    assert origin_of(image) == (Origin("fruit fly", "Taiwan FlyCircuit", "confocal"), None)
    assert origin_of("mine/x.tif") == (Origin(), None)
    origin, note = origin_of("p_checked8_mars/x/x.v3dpbd")
    assert (
        origin == Origin(lab="mars")
        and note == "unknown group p_checked8_mars: its species and microscopy are not known"
    )


def test_the_table_goes_first():
    table = read_origins("image,organism,xy_um,z_um,licence\nx.v3dpbd,Mouse,0.5,2,CC0\ny.tif,,,,\n,,,,\n", "t.csv")
    assert set(table) == {"x.v3dpbd", "y.tif"}
    origin, note = origin_of("p_checked8_mars/x/x.v3dpbd", table)
    assert origin == Origin("Mouse", "mars", None, "CC0", (2.0, 0.5, 0.5)) and note is None
    assert origin_of("y.tif", table) == (Origin(), None)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image\n" + "x" * 200_000, "t.csv:.*field larger"),
        ("a,b\n1,2\n", "column 'image'"),
        ("", "nothing"),
        ("image,xy_um\nx,wide\n", "t.csv:2: .*wide"),
    ],
)
def test_a_table_that_is_none(text, match):
    with pytest.raises(DataError, match=match):
        read_origins(text, "t.csv")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0.3 0.4 1.0", (1.0, 0.4, 0.3)),
        ("0.2,0.9", (0.9, 0.2, 0.2)),
        ("0.5\n", (0.5, 0.5, 0.5)),
        ("x=0.2 y=0.3 z=0.5", (0.5, 0.3, 0.2)),
        ("Voxel size: X: 200 nm; Y: 200 nm; Z: 1000 nm", (1.0, 0.2, 0.2)),
        ("z=2 x=.5", (2.0, 0.5, 0.5)),
        ("z: 2 xy: 0.5", (2.0, 0.5, 0.5)),
        ("200nm", (0.2, 0.2, 0.2)),
        ("200NM, 300 Nm 1000nm", (1.0, 0.3, 0.2)),
        ("200,200,1000 nm", (1.0, 0.2, 0.2)),
        ("0.2, 0.9", (0.9, 0.2, 0.2)),
        ("0.2um x 0.3um x 1um", (1.0, 0.3, 0.2)),
        ("2e-1 2e-1 5e-1 µm", (0.5, 0.2, 0.2)),  # the micro sign, and below the Greek letter
        ("0.5 μm/voxel", (0.5, 0.5, 0.5)),
        ("0.5 Microns", (0.5, 0.5, 0.5)),
    ],
)
def test_voxel_sizes(text, size):
    assert read_pixel_size(text, "n.pixelsize.txt") == pytest.approx(size)


@pytest.mark.parametrize("text", ["", "unknown", "1 2 3 4", "0 0 1", "-1 -1 -1", "nan", "1 1 nan", "inf 1 1"])
def test_no_voxel_size(text):
    with pytest.raises(DataError, match=r"n\.pixelsize\.txt: expected"):
        read_pixel_size(text, "n.pixelsize.txt")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1,5", "decimal point"),
        ("0,2 0,2 0,5", "decimal point"),
        ("1e-7 m", "um or nm, not in 'm'"),
        ("0.2 furlongs", "not in 'furlongs'"),
        ("Voxel size (mm): 0.1 0.1 0.1", "not in 'mm'"),
        ("200nm 200nm 1um", "one unit"),
    ],
)
def test_a_voxel_size_that_may_mean_something_else(text, match):
    with pytest.raises(DataError, match=rf"n\.pixelsize\.txt: expected .*{match}"):
        read_pixel_size(text, "n.pixelsize.txt")


def test_rows_are_found_by_the_longest_tail_of_the_path():
    table = read_origins("image,lab\nm1/stack.tif,one\n.\\m2\\stack.tif,two\nC:\\x\\y.tif,three\n", "t.csv")
    assert [origin_of(f"data/{name}/stack.tif", table)[0].lab for name in ("m1", "m2")] == ["one", "two"]
    assert origin_of("elsewhere/y.tif", table)[0].lab == "three"
    origin, note = origin_of("m3/stack.tif", table)
    assert origin == Origin() and "2 rows for stack.tif, which contradict each other" in note
    same = read_origins("image,lab\nm1/stack.tif,one\nm2/stack.tif,one\n", "t.csv")
    assert origin_of("m3/stack.tif", same) == (Origin(lab="one"), None)


def test_rows_that_contradict_each_other():
    assert len(read_origins("image,lab\nx.tif,a\nx.tif,a\n", "t.csv")) == 1
    with pytest.raises(DataError, match=r"t\.csv: expected one row for x\.tif, .* lines 2 and 4"):
        read_origins("image,lab\nx.tif,a\ny.tif,a\nx.tif,b\n", "t.csv")


def test_semicolons():
    table = read_origins("image;xy_um;z_um;lab\nx.tif;0.5;2;Lab, the\n", "t.csv")
    assert origin_of("x.tif", table) == (Origin(lab="Lab, the", voxel_size=(2.0, 0.5, 0.5)), None)
    assert read_origins("image,a;b\nx.tif,\n", "t.csv") == {"x.tif": Origin()}


def test_rows_without_an_image_are_told():
    table = read_origins("image,lab\nm1/a.tif,1\nm2/a.tif,2\nb.tif,3\nc.tif,4\n", "t.csv")
    assert table.unmatched(["g/m1/a.tif", "x/b.tif", "z.tif"]) == ["m2/a.tif", "c.tif"]
    assert table.unmatched(["m9/a.tif"]) == list(table)


@pytest.mark.real_data
def test_the_release_s_own_table(shared):
    path = shared / "data" / "gold166_layout.csv"
    table = read_origins(path.read_text(), path.name)
    rows = list(csv.DictReader(path.open()))
    assert len(table) == len(rows) == 163
    for row in rows:
        group = row["release_group_dir"]
        origin, note = origin_of(f"{group}/s/{row['checked3_path'].split('/')[-1]}", table)
        assert note is None and origin.voxel_size == (float(row["z_um"]),) + 2 * (float(row["xy_um"]),)
        if group:
            known, _ = origin_of(f"{group}/s/other.v3dpbd")
            assert known.species and known.lab and known.microscopy
