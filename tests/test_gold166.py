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
    [("a,b\n1,2\n", "column 'image'"), ("", "nothing"), ("image,xy_um\nx,wide\n", "t.csv:2: .*wide")],
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
    ],
)
def test_voxel_sizes(text, size):
    assert read_pixel_size(text, "n.pixelsize.txt") == pytest.approx(size)


@pytest.mark.parametrize("text", ["", "unknown", "1 2 3 4", "0 0 1", "-1 -1 -1"])
def test_no_voxel_size(text):
    with pytest.raises(DataError, match=r"n\.pixelsize\.txt: expected"):
        read_pixel_size(text, "n.pixelsize.txt")


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
