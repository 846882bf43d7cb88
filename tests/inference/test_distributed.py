"""Several processes on one large volume: the same result whoever does what, whoever dies."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d import NeuronViT3DImageProcessor, read_volume, synthetic_neuron
from neuron_vit3d.inference.large import segment_large
from neuron_vit3d.volumes.formats.zarr_writer import ImageLevel, create_image
from support import processes
from support.tiny_models import tiny_model


pytest.importorskip("distributed")
from neuron_vit3d.inference.distributed import Cluster


pytestmark = pytest.mark.slow
TILES = {"tile_size": 48, "tile_overlap": 8, "device": "cpu"}
# One thread each, as the workers have: the last bits of a matrix product may depend on how many share it.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint, an OME-Zarr image of 12 regions, and what one process alone makes of it."""
    folder = tmp_path_factory.mktemp("distributed")
    model = tiny_model()
    model.save_pretrained(folder / "model")
    NeuronViT3DImageProcessor.for_model(model.config).save_pretrained(folder / "model")
    neuron = synthetic_neuron((760, 40, 60), seed=1).volume
    create_image(
        folder / "image.ome.zarr",
        neuron.shape,
        neuron.dtype,
        (1.0, 0.5, 0.5),
        shard=(64, 256, 256),
        chunk=(32, 64, 64),
    )
    level = ImageLevel(folder / "image.ome.zarr")
    for index in range(len(level)):
        level.write(level.box(index), neuron.array[level.box(index)])
    code = (
        "import sys; from neuron_vit3d.inference.large import segment_large\n"
        f"segment_large(sys.argv[1], sys.argv[2], out=sys.argv[3], **{TILES})"
    )
    paths = [folder / name for name in ("image.ome.zarr", "model", "alone.ome.zarr")]
    processes.run(["-c", code, *paths], env=ENVIRONMENT, check=True)
    return folder


def assert_same(out: Path, folder: Path) -> None:
    found, expected = read_volume(out).array, read_volume(folder / "alone.ome.zarr").array
    assert expected.std() > 0.01
    np.testing.assert_array_equal(found, expected)


class Processes:
    """A scheduler and workers, each a process of its own, as on a cluster."""

    def __init__(self, folder: Path, workers: int):
        self.folder, self.running = folder, []
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", folder / "it.json"
        )
        self.workers = [
            self._start(
                "worker", "--scheduler-file", folder / "it.json", "--nthreads", "1", "--no-nanny", "--no-dashboard"
            )
            for _ in range(workers)
        ]

    def _start(self, *words):
        with open(self.folder / f"{words[0]}{len(self.running)}.log", "w") as log, open(os.devnull) as nothing:
            files = (nothing, log, log)
            process = processes.start(["-m", "dask", *words], env=ENVIRONMENT, cwd=self.folder, files=files)
        self.running.append(process)
        return process

    def address(self) -> str:
        import json

        for _ in range(300):
            try:
                return json.loads((self.folder / "it.json").read_text())["address"]
            except (OSError, ValueError):
                time.sleep(0.1)
        raise TimeoutError((self.folder / "scheduler0.log").read_text())

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error) -> None:
        for process in self.running:
            process.kill()
            process.wait()


class KillsAfter(Cluster):
    """Kills processes once so many regions are segmented."""

    def __init__(self, address: str, victims: dict):
        super().__init__(address=address)
        self.victims, self.segmented = victims, 0

    def run(self, job, task, numbers):
        for number in super().run(job, task, numbers):
            self.segmented += task == "segment"
            yield number
            if task == "segment" and self.segmented in self.victims:
                self.victims[self.segmented].send_signal(signal.SIGKILL)
                self.victims[self.segmented].wait()


def test_a_worker_dies_then_the_scheduler_and_another_run_ends_with_the_same(folder, tmp_path):
    out = tmp_path / "scores.ome.zarr"
    with Processes(tmp_path, workers=3) as processes:
        victims = {2: processes.workers[0], 5: processes.scheduler}
        with (
            KillsAfter(processes.address(), victims) as cluster,
            pytest.raises(OSError, match="run it again to go on"),
        ):
            segment_large(folder / "image.ome.zarr", folder / "model", out=out, engine=cluster, **TILES)
    assert not out.exists()
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / f".{out.name}.unfinished").rglob("segment/*/*")}
    # What workers were given goes on after the scheduler is gone: 5 and twice the workers at most.
    assert 5 <= len(done) < 12
    with Cluster(workers=2) as cluster:
        seen = []
        real = cluster.run
        cluster.run = lambda job, task, numbers: (seen.append((task, numbers)), real(job, task, numbers))[1]
        assert segment_large(folder / "image.ome.zarr", folder / "model", out=out, engine=cluster, **TILES) == out
    again = dict(seen)["segment"]
    assert len(again) == 12 - len(done) and not {str(number) for number in again} & done.keys()
    assert_same(out, folder)


def test_a_worker_that_sees_another_checkpoint_says_so(folder, tmp_path):
    from shutil import copytree

    copytree(folder / "model", tmp_path / "model")

    class Meanwhile(Cluster):
        """The checkpoint is changed after the work was begun."""

        def run(self, job, task, numbers):
            other = tiny_model(seed=9)
            other.save_pretrained(tmp_path / "model")
            yield from super().run(job, task, numbers)

    with Meanwhile(workers=1) as cluster, pytest.raises(ValueError, match="was begun with model"):
        segment_large(
            folder / "image.ome.zarr", tmp_path / "model", out=tmp_path / "a.ome.zarr", engine=cluster, **TILES
        )


def test_what_is_in_memory_cannot_be_sent(folder, tmp_path):
    with Cluster(workers=1) as cluster, pytest.raises(ValueError, match="as files"):
        segment_large(
            read_volume(folder / "image.ome.zarr"), folder / "model", out=tmp_path / "a.ome.zarr", engine=cluster
        )


def test_a_cluster_is_an_address_or_workers():
    for wrong in ({}, {"address": "tcp://a:1", "workers": 2}, {"workers": 0}):
        with pytest.raises(ValueError, match="worker"):
            Cluster(**wrong)
    with pytest.raises(OSError, match="cannot reach a scheduler"):
        Cluster(address="tcp://127.0.0.1:9", timeout=1)
