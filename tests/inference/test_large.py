"""A large volume region by region: as the whole one, interrupted anywhere, in parts, and what is refused."""

import json
import os
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d import NeuronViT3DImageProcessor, Volume, read_volume, segment, write_volume
from neuron_vit3d.inference import Segmenter, background, large, region_job, regions
from neuron_vit3d.inference.large import Here, segment_large
from neuron_vit3d.inference.progress_folder import ProgressFolder
from neuron_vit3d.inference.region_job import LargeJob
from neuron_vit3d.volumes import VolumeError, open_volume
from neuron_vit3d.volumes.formats.zarr_writer import ImageLevel, create_image
from support.tiny_models import tiny_model


HALF_A_LEVEL = 0.5 / 1024 + 1e-6


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def small_regions(monkeypatch):
    monkeypatch.setattr(regions, "_SLICES", 4)
    monkeypatch.setattr(regions, "_PIXELS", 40)
    monkeypatch.setattr(regions, "_CHUNK_PIXELS", 24)


def segmenter(model, **options) -> Segmenter:
    return Segmenter(
        model, **{"device": "cpu", "tile_size": 32, "tile_overlap": 8, "skip_background": False, **options}
    )


def image(shape=(6, 60, 110), seed: int = 0) -> Volume:
    array = np.random.default_rng(seed).gamma(2.0, 10.0, shape)
    array[..., shape[-2] // 2, 5:-5] += 150
    return Volume(array.clip(0, 255).astype(np.uint8), voxel_size=(1.0, 0.3, 0.3), source="line.tif")


def voxels(path: Path) -> np.ndarray:
    return read_volume(path).array


@pytest.mark.parametrize("outputs", [1, 3])
def test_one_region_is_the_whole_volume(outputs, tmp_path):
    model, volume = tiny_model(num_slices=5, num_output_slices=outputs), image()
    out = segment_large(volume, segmenter(model), out=tmp_path / "a.ome.zarr")
    found = read_volume(out)
    np.testing.assert_allclose(found.array, segment(volume, segmenter(model)).array, atol=HALF_A_LEVEL)
    assert found.voxel_size == volume.voxel_size and found.array.dtype == np.float32 and found.array.std() > 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]


@pytest.mark.slow
def test_each_region_is_as_its_surroundings_alone_would_be(model, small_regions, tiles_as_asked, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (9, 100, 130), np.uint8)  # 0 and 255 are in every part of it
    processor = NeuronViT3DImageProcessor.for_model(model.config)
    processor.lower_percentile, processor.upper_percentile = 0.0, 100.0
    tool = segmenter(model, processor=processor)
    found = voxels(segment_large(Volume(array), tool, out=tmp_path / "a.ome.zarr"))
    grid = regions.RegionGrid(tool.grid(array.shape))
    assert len(grid) == 27
    for region in grid:
        alone = segment(Volume(array[region.seen]), tool).array
        z = region.core[0].start - region.seen[0].start
        depth = region.core[0].stop - region.core[0].start
        np.testing.assert_allclose(
            found[region.core], alone[(slice(z, z + depth), *region.inner[1:])], atol=HALF_A_LEVEL
        )


@pytest.mark.slow
def test_the_result_is_valid_ngff_with_lower_resolutions(model, tmp_path):
    yaozarrs = pytest.importorskip("yaozarrs")
    volume = image((3, 300, 530))
    out = segment_large(volume, segmenter(model, tile_size=300), out=tmp_path / "a.ome.zarr")
    yaozarrs.validate_zarr_store(str(out))
    ome = json.loads((out / "zarr.json").read_text())["attributes"]["ome"]
    (multiscale,) = ome["multiscales"]
    assert ome["version"] == "0.5" and [axis["unit"] for axis in multiscale["axes"]] == ["micrometer"] * 3
    assert [level["path"] for level in multiscale["datasets"]] == ["0", "1", "2"]
    assert multiscale["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [2.0, 0.6, 0.6]},
        {"type": "translation", "translation": [0.5, 0.15, 0.15]},
    ]
    levels = [ImageLevel(out, level) for level in range(3)]
    assert [level.shape for level in levels] == [(3, 300, 530), (2, 150, 265), (1, 75, 133)]
    for above, below in pairwise(levels):
        whole = [slice(0, side) for side in above.shape]
        padded = np.pad(above.read(tuple(whole)), [(0, side % 2) for side in above.shape], mode="edge")
        z, y, x = below.shape
        expected = padded.reshape(z, 2, y, 2, x, 2).max(axis=(1, 3, 5))
        np.testing.assert_array_equal(below.read(tuple(slice(0, side) for side in below.shape)), expected)


class Interrupted(Exception):
    pass


class StopsAfter:
    """An engine that is interrupted after so many pieces of work."""

    def __init__(self, count: int):
        self.count, self.done = count, []

    def run(self, job: LargeJob, task: str, numbers: list[int]):
        for number in islice(Here().run(job, task, numbers), self.count - len(self.done)):
            self.done.append((task, number))
            yield number
        if len(self.done) == self.count:
            raise Interrupted


def test_interrupted_anywhere_it_goes_on_and_no_piece_of_work_is_done_twice(model, small_regions, tmp_path):
    volume, done = image((9, 60, 110)), []
    uninterrupted = segment_large(volume, segmenter(model), out=tmp_path / "whole.ome.zarr")
    out = tmp_path / "a.ome.zarr"
    for count in (3, 14, 9, 100):
        engine = StopsAfter(count)
        try:
            assert segment_large(volume, segmenter(model), out=out, engine=engine) == out
        except Interrupted:
            assert not out.exists()
        done += engine.done
    assert len(set(done)) == len(done) == 18 + 18
    np.testing.assert_array_equal(voxels(out), voxels(uninterrupted))
    before = (out / "zarr.json").stat().st_mtime_ns
    assert segment_large(volume, segmenter(model), out=out, engine=StopsAfter(0)) == out  # nothing is left to do
    assert (out / "zarr.json").stat().st_mtime_ns == before


def test_a_run_of_before_goes_on(model, tmp_path):
    """Whether the negative is read was not noted then."""
    out = tmp_path / "a.ome.zarr"
    with pytest.raises(Interrupted):
        segment_large(image(), segmenter(model, invert=True), out=out, engine=StopsAfter(1))
    (metadata,) = tmp_path.glob(".*/a.ome.zarr/zarr.json")
    noted = json.loads(metadata.read_text())
    (made_with,) = [value for value in noted["attributes"].values() if "num_channels" in value]
    assert made_with.pop("invert") is True
    metadata.write_text(json.dumps(noted))
    assert segment_large(image(), segmenter(model, invert=True), out=out) == out


@pytest.mark.slow
def test_shards_of_the_work_make_the_whole_in_any_order(model, small_regions, tmp_path):
    volume, out = image((9, 60, 110)), tmp_path / "a.ome.zarr"
    uninterrupted = segment_large(volume, segmenter(model), out=tmp_path / "whole.ome.zarr")
    for number in (2, 0, 1):
        assert segment_large(volume, segmenter(model), out=out, shard=(number, 3)) is None and not out.exists()
    engine = StopsAfter(1)
    segment_large(volume, segmenter(model), out=out, engine=engine)
    assert not [task for task, _ in engine.done if task != "shrink"]
    np.testing.assert_array_equal(voxels(out), voxels(uninterrupted))
    assert segment_large(volume, segmenter(model), out=out, shard=(1, 3)) is None  # a job that was sent twice
    with pytest.raises(ValueError, match="expected i/n"):
        segment_large(volume, segmenter(model), out=out, shard=(3, 3))


def test_the_brightest_and_darkest_of_all_regions_are_white_and_black(model, small_regions, tmp_path, monkeypatch):
    volume = image((9, 60, 110))
    array = volume.array.copy()
    array[:, :, 60:] //= 4  # another region
    volume = Volume(array)
    plans = []
    real = ProgressFolder.note_plan
    monkeypatch.setattr(ProgressFolder, "note_plan", lambda self, plan: (plans.append(plan), real(self, plan)))
    segment_large(volume, segmenter(model), out=tmp_path / "a.ome.zarr")
    black, white = segmenter(model).processor.intensity_range(array[None])
    assert plans == [{"black": black.tolist(), "white": white.tolist(), "enough": 0.0}]


@pytest.mark.slow
def test_background_is_skipped_by_the_whole_volumes_measure(
    model, small_regions, tiles_as_asked, tmp_path, monkeypatch
):
    monkeypatch.setattr(background, "_MIN_BLOCKS", 0)
    monkeypatch.setattr(background, "_SURE", 2.0)  # the model finds nothing: only noise is left out
    monkeypatch.setattr(background, "_LOWEST", 10.0)
    array = np.random.default_rng(0).normal(100, 10, (8, 96, 192)).astype(np.float32)
    array[:, 20:23, 10:40] += 300
    whole = voxels(segment_large(Volume(array), segmenter(model), out=tmp_path / "whole.ome.zarr"))
    part = segment_large(Volume(array), segmenter(model, skip_background=True), out=tmp_path / "part.ome.zarr")
    assert not voxels(part)[:, :, 100:].any() and whole.min() > 0
    np.testing.assert_array_equal(voxels(part)[:, 16:26, 5:20], whole[:, 16:26, 5:20])
    stored = {path.relative_to(part / "0" / "c") for path in (part / "0" / "c").rglob("*") if path.is_file()}
    assert stored == {Path("0/0/0"), Path("1/0/0")}  # shards of background are not written


def test_how_much_is_enough_is_learned_from_the_same_blocks_as_in_a_whole_volume(model, tmp_path, monkeypatch):
    monkeypatch.setattr(background, "_MIN_BLOCKS", 0)
    monkeypatch.setattr(background, "_SAMPLE", 20)
    monkeypatch.setattr(background, "_HIGHEST", 1e9)
    array = np.random.default_rng(0).normal(100, 10, (8, 96, 192)).astype(np.float32)
    for row, height in ((10, 300), (40, 150), (70, 90)):
        array[2:5, row : row + 3, 10:180] += height

    class Finder(Segmenter):
        """Finds what is bright."""

        def _begin(self, batch):
            return lambda: np.stack([block[0, 1:2] > 0.4 for block in batch]).astype(np.float32)

    def plan_of(out: str) -> float:
        plans = []
        monkeypatch.setattr(ProgressFolder, "note_plan", lambda self, plan: plans.append(plan))
        monkeypatch.setattr(ProgressFolder, "plan", lambda self: plans[0] if plans else None)
        tool = Finder(model, device="cpu", tile_size=32, tile_overlap=0, skip_background=True)
        segment_large(Volume(array), tool, out=tmp_path / out)
        return plans[0]["enough"]

    levels = []
    real = background.enough
    monkeypatch.setattr(background, "enough", lambda given: (levels.append(real(given)), levels[-1])[1])
    tool = Finder(model, device="cpu", tile_size=32, tile_overlap=0, skip_background=True)
    segment(Volume(array), tool)
    assert background._LOWEST < levels[0] < background._HIGHEST
    assert plan_of("one.ome.zarr") == pytest.approx(levels[0])
    monkeypatch.setattr(regions, "_SLICES", 4)
    monkeypatch.setattr(regions, "_PIXELS", 64)
    # Regions see less of the noise around a cell; but cells of noise alone reach no more than about 5.
    assert 5.5 < plan_of("several.ome.zarr") < 1.3 * levels[0]


def test_a_run_beside_one_that_ends_says_so_and_leaves_its_result(model, small_regions, tmp_path):
    volume, out = image((9, 60, 110)), tmp_path / "a.ome.zarr"

    class Overtaken(Here):
        def run(self, job, task, numbers):
            for number in super().run(job, task, numbers):
                yield number
                if task == "segment":  # meanwhile the other one does all that is left
                    segment_large(volume, segmenter(model), out=out)

    with pytest.raises(OSError, match="another run has ended this work"):
        segment_large(volume, segmenter(model), out=out, engine=Overtaken())
    assert voxels(out).std() > 0.01 and segment_large(volume, segmenter(model), out=out) == out
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_of_runs_that_begin_at_once_the_first_ones_folder_stays(model, small_regions, tmp_path, monkeypatch):
    volume, out, engine, real = image((9, 60, 110)), tmp_path / "a.ome.zarr", StopsAfter(100), region_job.create_image

    def overtaken(*arguments, **options):
        monkeypatch.setattr(region_job, "create_image", real)
        segment_large(volume, segmenter(model), out=out, shard=(0, 2))
        real(*arguments, **options)

    monkeypatch.setattr(region_job, "create_image", overtaken)
    assert segment_large(volume, segmenter(model), out=out, engine=engine) == out
    assert [task for task, _ in engine.done] == ["segment"] * 9  # the other half of 18
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]


@pytest.mark.slow
def test_a_result_that_is_empty_can_be_opened_box_by_box(model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Segmenter, "_begin", lambda self, batch: lambda: np.zeros((len(batch), 1, *batch[0].shape[-2:]))
    )
    rng = np.random.default_rng(0)
    out = segment_large(
        Volume(rng.integers(0, 9, (52, 1024, 1024), np.uint8)),
        segmenter(model, tile_size=480),
        out=tmp_path / "a.ome.zarr",
    )
    with open_volume(out) as reader:
        assert not reader.read_box((slice(0, 9), slice(0, 9), slice(1000, 1024))).any()
    assert large.write_mask(out, tmp_path / "mask.ome.zarr", 0.5) == 0
    with pytest.raises(VolumeError, match="at once, but"):
        read_volume(out)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tile_overlap": 4}, "was begun with tile_overlap 8, which is 4 now"),
        ({"flips": True}, "was begun with flips False, which is True now"),
        ({"invert": True}, "was begun with invert False, which is True now"),
        ({"seed": 1}, "was begun with image "),
        ({"weights": 1}, "was begun with model "),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_jobs_folder_is_refused(change, complaint, finished, model, tmp_path):
    out, change = tmp_path / "a.ome.zarr", dict(change)
    try:
        segment_large(image(), segmenter(model), out=out, engine=None if finished else StopsAfter(1))
    except Interrupted:
        pass
    volume = image(seed=change.pop("seed", 0))
    other = tiny_model(seed=3) if change.pop("weights", 0) else model
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(VolumeError, match=complaint):
        segment_large(volume, segmenter(other, **change), out=out)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_is_no_result_of_this_program_is_left_alone(model, tmp_path):
    out = tmp_path / "a.ome.zarr"
    out.mkdir()
    (out / "precious.txt").write_text("keep me")
    with pytest.raises(VolumeError, match="is no image that this program began"):
        segment_large(image(), segmenter(model), out=out)
    assert [path.name for path in tmp_path.rglob("*")] == ["a.ome.zarr", "precious.txt"]


@pytest.mark.parametrize(
    ("value", "complaint"), [(np.nan, "1 NaN and 0 infinite ones in slices 4 to 7"), (np.inf, "0 NaN and 1 infinite")]
)
def test_voxels_that_are_no_numbers_are_refused(value, complaint, model, small_regions, tmp_path):
    array = np.random.default_rng(0).random((9, 60, 110), np.float32)
    array[6, 50, 100] = value
    with pytest.raises(VolumeError, match=complaint):
        segment_large(Volume(array), segmenter(model), out=tmp_path / "a.ome.zarr")


def test_an_image_of_one_value_is_refused(model, tmp_path):
    with pytest.raises(VolumeError, match="got the value 3 in every voxel"):
        segment_large(Volume(np.full((3, 40, 40), 3, np.uint8)), segmenter(model), out=tmp_path / "a.ome.zarr")


def test_files_are_told_by_size_and_time(model, tmp_path):
    write_volume(tmp_path / "a.tif", image())
    out = segment_large(tmp_path / "a.tif", segmenter(model), out=tmp_path / "a.ome.zarr")
    write_volume(tmp_path / "a.tif", image(seed=1))
    with pytest.raises(VolumeError, match=r"was begun with image a\.tif"):
        segment_large(tmp_path / "a.tif", segmenter(model), out=out)


def test_a_chunk_that_is_replaced_by_an_older_file_of_the_same_size_is_noticed(model, tmp_path):
    chunks = []
    for seed, path in enumerate((tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr")):
        noise = np.random.default_rng(seed).integers(0, 256, (4, 32, 64), np.uint8)  # not to be compressed
        create_image(path, noise.shape, noise.dtype, None, shard=(4, 32, 32), chunk=(4, 32, 32))
        level = ImageLevel(path)
        for index in range(len(level)):
            level.write(level.box(index), noise[level.box(index)])
        chunks.append(path / "0" / "c" / "0" / "0" / "1")
        for inside in [path, *path.rglob("*")]:
            os.utime(inside, ns=(10**18, 10**18))
    ours, other = chunks
    assert ours.stat().st_size == other.stat().st_size and ours.read_bytes() != other.read_bytes()
    out = segment_large(tmp_path / "a.ome.zarr", segmenter(model), out=tmp_path / "out.ome.zarr")
    other.rename(ours)
    with pytest.raises(VolumeError, match=r"was begun with image a\.ome\.zarr"):
        segment_large(tmp_path / "a.ome.zarr", segmenter(model), out=out)
