"""Segments one large volume by many processes, on one machine or many, with dask.distributed (extra `cluster`).

    with Cluster(workers=3) as cluster:                       # processes of this machine
        segment_large("brain.ome.zarr", out="brain.scores.ome.zarr", engine=cluster)
    with Cluster(address="tcp://scheduler:8786") as cluster:  # a scheduler that is already running
        ...

All workers must see the image, the checkpoint and the result's folder under the same paths, on a shared disk. A region
whose worker died is given to another one. If the scheduler itself is lost, a further run goes on from what was done.
"""

import json
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..volumes import Volume
from .region_job import LargeJob
from .segmenter import Segmenter


_AHEAD = 2  # regions assigned to each worker: the current one and the next


class Cluster:
    """An [`Engine`] of dask workers; use it in a `with` statement.

    Args:
        address: address of a scheduler, such as `tcp://host:8786`; None: a cluster of processes is started on this
            machine.
        workers: number of processes, if no address is given; each computes with one thread.
        timeout: seconds to wait for the scheduler.

    Raises:
        ValueError: neither an address nor workers is given, or both are, or dask.distributed is not installed.
        OSError: the scheduler cannot be reached, or its connection is lost.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, timeout: float = 30):
        if (address is None) == (workers is None):
            raise ValueError("expected either the address of a scheduler or a number of workers")
        if workers is not None and workers < 1:
            raise ValueError(f"expected at least one worker, got {workers}")
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise ValueError('a cluster needs dask.distributed: pip install "neuron_vit3d[cluster]"') from error
        self._cluster = None
        if address is None:
            self._cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
            )
        try:
            self._client = Client(address or self._cluster, timeout=timeout)
        except (OSError, TimeoutError, ValueError) as error:
            raise OSError(f"{address}: cannot reach a scheduler there: {error}") from error

    def run(self, job: LargeJob, task: str, numbers: list[int]) -> Iterator[int]:
        """Yields the numbers in the order in which their work is done."""
        from distributed import as_completed

        if isinstance(job.image, Volume) or isinstance(job.model, Segmenter):
            raise ValueError("workers need the image and the checkpoint as files, but one of them is in memory")
        told, waiting, running = _told(job), iter(numbers), as_completed()
        while True:
            try:
                # Workers come and go, so each round assigns enough regions for those that are there now.
                for number in islice(waiting, max(0, self._capacity() - running.count())):
                    running.add(self._submit(told, task, number))
                if not running.count():
                    return
                future = next(running)
            except (OSError, TimeoutError) as error:
                raise _lost(job, error) from error
            yield self._result(future, job)

    def _result(self, future, job: LargeJob) -> int:
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise OSError(f"{job.out}: {error}; finished regions are kept, run it again to go on") from error
        except (FutureCancelledError, TimeoutError, OSError) as error:
            if future.status == "error":  # the worker's own
                raise
            raise _lost(job, error) from error
        except RuntimeError as error:
            if "deserialization" not in str(error):
                raise
            raise OSError(f"the scheduler or a worker lacks this neuron_vit3d: {error}") from error

    def _submit(self, told: tuple, task: str, number: int):
        return self._client.submit(do, told, task, number, retries=2, pure=False)

    def _capacity(self) -> int:
        return max(1, _AHEAD * sum(self._client.nthreads().values()))

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _lost(job: LargeJob, error: BaseException) -> OSError:
    return OSError(f"{job.out}: the scheduler was lost: {error}; finished regions are kept, run it again to go on")


def do(told: tuple, task: str, number: int) -> int:
    """Does one piece of work, in a worker.

    Raises:
        VolumeError: the worker's checkpoint or image differs from that of the process that asked.
    """
    job = _job(told)
    for _ in getattr(job, task)([number]):
        pass
    return number


def _told(job: LargeJob) -> tuple:
    """Lists all that a worker needs to know, also to notice that its checkpoint or image differs."""
    model = job.model
    if model is not None:
        model = str(Path(model).absolute() if Path(model).exists() else model)
    made_with = json.dumps(job.made_with)
    assert isinstance(job.image, Path)  # each worker opens it by its name
    return (
        str(job.image.absolute()),
        str(job.out.absolute()),
        model,
        job.channel,
        job.voxel_size_given,
        job.options,
        job.processor,
        job.number,
        made_with,
    )


_jobs: dict[tuple, LargeJob] = {}  # the last job of this worker
_one_at_a_time = threading.Lock()  # a worker may have several threads


def _job(told: tuple) -> LargeJob:
    with _one_at_a_time:
        if told not in _jobs:
            image, out, *how, _ = told
            job = LargeJob(Path(image), Path(out), *how).__enter__()
            job.check_begun()
            _jobs.clear()
            _jobs[told] = job
        return _jobs[told]
