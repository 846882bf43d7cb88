"""Streams training blocks from the `blocks` config of a prepared dataset, on disk or on the Hub.

Each stored row is a small volume (by default 9 x 288 x 288) with its labels; a training block is cut from it at random
and varied as `augmentation.py` says. There is no shuffle buffer: rows come from several shards in turn, in an order
that follows from seed, epoch, rank and worker. So a run can be resumed in the middle of an epoch, by skipping rows.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterator
from itertools import count
from typing import Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from .augmentation import Augmentation, View, make_block
from .sampling import ArrayVolume, choose_place, cut_window
from .sources import DataError


_COLUMNS = ("neuron_id", "lab", "neuron_blocks", "shape", "dtype", "image", "mask", "black", "white")
# Another neuron for `Augmentation.mix` is looked for in so many rows before the present one.
_DONORS = 8
# Blocks of one row are alike: more than this many would be no gain.
_MOST_BLOCKS_OF_A_ROW = 4
# With fewer files than this their parts are shards as well: neighbouring rows often show the same neuron.
_FEW_SHARDS = 64
# Rows that a shard hands over at a time; they stay undecoded in Arrow memory.
_ROWS_AT_ONCE = 8


class StreamedBlocks(IterableDataset):
    """Blocks from the rows of a `blocks` config, in a seeded random order.

    A `datasets.Dataset` is read in an order drawn anew for every pass; rows are dealt to ranks and workers. A
    `datasets.IterableDataset` (`load_dataset(repo, "blocks", split="train", streaming=True)`) has shards, which are
    dealt to ranks and workers. Where there are fewer shards than workers, every worker reads all shards and takes
    every n-th row. A worker reads `interleave` shards in turn. In one pass each row is used once, by one worker of one
    rank.

    A block depends on (seed, epoch, rank, worker, number of blocks before it) and on the numbers of ranks and workers.
    With accelerate do not `prepare` the DataLoader of this dataset: it would deal the blocks to the ranks a second
    time.

    Args:
        dataset: the stored blocks.
        processor: the model's image processor: its depth of a block and its normalisation are used.
        tile_size: side of a tile in pixels.
        length: blocks in an epoch for each rank; None: without end.
        foreground_probability: share of the blocks that are centered on a neuron's voxel (then shifted by up to a
            third of a tile) where the row shows a neuron; the others lie anywhere in their row.
        augmentation: how blocks are varied; the other neuron of `mix` is one of the rows that the worker passed
            before.
        seed: of everything random.
        balance: what blocks come from equally often: "neuron", "lab" (then each of its neurons), or "volume" (each row
            gives a block). A row of what has few gives several blocks, up to four, and one of what has many gives one
            or none: as many blocks as rows. What is still to come is not known, so the first blocks are less balanced.
        interleave: how many shards are read at a time.
        rank, world_size: of this process; None: as torch.distributed, or torchrun's or accelerate's environment say
            when this object is made.

    Items are those of `BlockDataset`. The ignored 255 marks what a turned or widened tile shows beyond its row.

    Raises:
        DataError: not the columns of the `blocks` config, or options that make no sense; while iterating: a row whose
            bytes do not fit its shape, too few rows for all workers, or a state that does not fit the DataLoader.
    """

    def __init__(
        self,
        dataset,
        processor,
        *,
        tile_size: int,
        length: int | None = None,
        foreground_probability: float = 0.7,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        balance: Literal["neuron", "lab", "volume"] = "neuron",
        interleave: int = 4,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        missing = set(_COLUMNS) - set(dataset.column_names or _COLUMNS)
        if missing:
            raise DataError(f"expected a dataset of the config 'blocks', found none of its column {min(missing)!r}")
        if processor.num_channels != 1:
            raise DataError(f"stored blocks have one channel, the processor expects {processor.num_channels}")
        if getattr(processor, "intensities", "percentiles") != "percentiles":
            raise DataError(
                f"stored blocks hold their neuron's black and white by percentiles, the processor's intensities are "
                f"{processor.intensities!r}: stream the config 'volumes', or make the processor with "
                "intensities='percentiles'"
            )
        if balance not in ("neuron", "lab", "volume"):
            raise DataError(f"balance: expected 'neuron', 'lab' or 'volume', got {balance!r}")
        if interleave < 1:
            raise DataError(f"interleave: expected at least 1 shard at a time, got {interleave}")
        if hasattr(dataset, "reshard") and dataset.num_shards < _FEW_SHARDS:
            dataset = dataset.reshard()  # a shard for each row group of the Parquet files
        self.rows = dataset.select_columns(list(_COLUMNS)).with_format("arrow")
        self.processor, self.tile_size, self.length = processor, tile_size, length
        self.foreground_probability, self.seed, self.interleave = foreground_probability, seed, interleave
        self.balance = balance
        self.augmentation = augmentation or Augmentation()
        self.rank, self.world_size = _place_among_processes(rank, world_size)
        # Epoch; batches to pass over, blocks in each; in shared memory, so that workers that live on hear of a change.
        self._state = torch.zeros(3, dtype=torch.int64).share_memory_()
        self._given = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch that comes next, from its beginning."""
        if epoch != int(self._state[0]):
            self._state.copy_(torch.tensor([epoch, 0, 0]))
            self._given = 0

    def resume(self, epoch: int, batches: int, batch_size: int) -> None:
        """Lets the next iteration go on after `batches` batches of this rank's DataLoader.

        The blocks of those batches are not decoded. The DataLoader must have as many workers as the one that was
        stopped. This holds until `set_epoch` sets another epoch.
        """
        if min(epoch, batches) < 0 or batch_size < 1:
            raise DataError(
                f"resume: expected epoch, batches >= 0, batch_size >= 1, got {epoch}, {batches}, {batch_size}"
            )
        self._state.copy_(torch.tensor([epoch, batches, batch_size]))

    def state_dict(self) -> dict[str, int]:
        """Returns where an iteration in this process (no workers) stands; see `load_state_dict`."""
        return {"epoch": int(self._state[0]), "blocks": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration in this process (no workers) go on where `state_dict` was taken."""
        self.resume(state["epoch"], state["blocks"], 1)
        self._given = state["blocks"]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        worker = get_worker_info()
        if worker:
            import pyarrow

            pyarrow.set_cpu_count(1)  # as torch does in workers: there is one for every core already
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        epoch, batches, batch_size = self._state.tolist()
        # A DataLoader asks its workers in turn, and always the first one first: after a resume that one goes on as the
        # worker whose turn it was.
        number = (number + batches) % workers
        used = max(0, -(-(batches - number) // workers)) * batch_size
        length = None if self.length is None else self.length // workers + (number < self.length % workers)
        consumer, consumers = self.rank * workers + number, self.world_size * workers
        recent: deque = deque(maxlen=_DONORS)
        self._given = used
        # A few rows before the first that is used: another neuron may come from them. How many blocks a row gives
        # depends on all before.
        first = max(0, used - _DONORS) if self.balance == "volume" else 0
        rows = self._balanced(self._rows(epoch, consumer, consumers, first), [self.seed, epoch, consumer])
        for index, row in enumerate(rows, start=first):
            if length is not None and index >= length:
                return
            if index >= used:
                self._given = index + 1
                rng = np.random.default_rng([self.seed, epoch, self.rank, number, index])
                yield self._block(row, recent, rng)
            if not recent or recent[-1] is not row:
                recent.append(row)

    def _balanced(self, rows: Iterator, seed: list[int]) -> Iterator:
        """Yields the rows in their order, each as often as blocks are to be cut from it."""
        if self.balance == "volume":
            yield from rows
            return
        rng, known = np.random.default_rng(seed), 0  # rows that are known of
        of_lab: dict[str, set[str]] = defaultdict(set)  # lab -> its neurons
        for row in rows:
            neuron, count = _value(row, "neuron_id"), _value(row, "neuron_blocks")
            lab = _value(row, "lab") if self.balance == "lab" else neuron
            if neuron not in of_lab[lab]:
                of_lab[lab].add(neuron)
                known += count
            # One on average over the rows, and for each lab, and each of its neurons, the same in sum.
            wanted = known / len(of_lab) / (len(of_lab[lab]) * count)
            for _ in range(int(min(wanted, _MOST_BLOCKS_OF_A_ROW) + rng.random())):
                yield row

    def _block(self, row, recent: deque, rng: np.random.Generator) -> dict[str, np.ndarray]:
        volume = _decode(row)

        def cut(view: View, labelled: slice, rng: np.random.Generator, donor: bool):
            source = volume
            if donor:
                others = [other for other in recent if _value(other, "neuron_id") != volume.name]
                if not others:
                    return None
                source = _decode(others[rng.integers(len(others))])
            probability = 1.0 if donor else self.foreground_probability
            place = choose_place(source, view, probability, rng, inner=int(np.abs(view.depth).max()))
            image, labels = cut_window(source, place, view, labelled)
            return self.processor.scale(image, source.intensity_range(self.processor)), labels

        farthest = (volume.shape[0] - 1) // 2
        return make_block(cut, self.processor, self.augmentation, self.tile_size, rng, farthest=farthest)

    def _rows(self, epoch: int, consumer: int, consumers: int, first: int) -> Iterator:
        """Yields one worker's rows as Arrow tables, from its row number `first` on, without end."""
        if hasattr(self.rows, "__getitem__") and hasattr(self.rows, "__len__"):
            own_rows = len(range(consumer, len(self.rows), consumers))
            if not own_rows:
                raise DataError(f"expected at least a row for each of {consumers} workers, got {len(self.rows)} rows")
            for number in count(first // own_rows):
                order = np.random.default_rng([self.seed, epoch, number]).permutation(len(self.rows))
                own = order[consumer::consumers]
                for index in own[first % own_rows :] if number == first // own_rows else own:
                    yield self.rows[int(index)]
        for number in count():
            is_empty = True
            for row in self._streamed_pass([self.seed, epoch, number], consumer, consumers):
                is_empty = False
                if first:
                    first -= 1
                else:
                    yield row
            if is_empty:
                raise DataError(f"the stream has fewer rows than workers ({consumers}), or no rows at all")

    def _streamed_pass(self, seed: list[int], consumer: int, consumers: int) -> Iterator:
        """Yields one worker's share of a pass over the shards, several of them in turn."""
        shards = self.rows.num_shards
        waiting = np.random.default_rng(seed).permutation(shards).tolist()
        by_rows = shards < consumers  # then all read the same, and each keeps what is its own
        if not by_rows:
            waiting = waiting[consumer::consumers]
            seed = [*seed, consumer]
        turns = np.random.default_rng([*seed, 1])
        opened: list[Iterator] = []
        for number in count():
            row = None
            while row is None:
                while waiting and len(opened) < self.interleave:
                    opened.append(self._rows_of_shard(waiting.pop(0)))
                if not opened:
                    return
                which = int(turns.integers(len(opened)))
                row = next(opened[which], None)
                if row is None:  # this shard is at its end
                    opened.pop(which)
            if not by_rows or number % consumers == consumer:
                yield row

    def _rows_of_shard(self, index: int) -> Iterator:
        # `iter` in batches, because a plain iteration in a worker process would divide the shard among the workers
        # again.
        shard = self.rows.shard(self.rows.num_shards, index)
        for table in shard.iter(_ROWS_AT_ONCE):
            for i in range(table.num_rows):
                yield table.slice(i, 1)


def _decode(row) -> ArrayVolume:
    """Makes a small volume of a stored row (an Arrow table of one row); its voxels are views of the row's bytes."""
    name, shape, dtype = (_value(row, column) for column in ("neuron_id", "shape", "dtype"))
    dtype, voxels = np.dtype(dtype).newbyteorder("<"), int(np.prod(shape))
    image, mask = (row.column(column)[0].as_buffer() for column in ("image", "mask"))
    if len(shape) != 3 or image.size != voxels * dtype.itemsize or mask.size != voxels:
        raise DataError(
            f"{name}: expected {voxels * dtype.itemsize} bytes of image and {voxels} of mask for a block {shape} of "
            f"{dtype}, found {image.size} and {mask.size}"
        )
    range_ = np.array([_value(row, "black")]), np.array([_value(row, "white")])
    labels = np.frombuffer(mask, np.uint8).reshape(shape)
    return ArrayVolume(name, np.frombuffer(image, dtype).reshape(1, *shape), labels, range_)


def _value(row, column: str):
    return row.column(column)[0].as_py()


def _place_among_processes(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise DataError(f"expected both rank and world_size or neither, got {rank} and {world_size}")
    if rank is None or world_size is None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            rank, world_size = distributed.get_rank(), distributed.get_world_size()
        else:
            rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if not 0 <= rank < world_size:
        raise DataError(f"expected a rank from 0 to {world_size - 1} of {world_size} processes, got {rank}")
    return rank, world_size
