"""Blocks from a stream: every row once, no row twice, and after an interruption exactly what would have come."""

import json
import os
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from datasets import Dataset, IterableDataset
from torch.utils.data import DataLoader

from neuron_vit3d import NeuronViT3DImageProcessor, synthetic_neuron
from neuron_vit3d.data import streaming
from neuron_vit3d.data.augmentation import Augmentation
from neuron_vit3d.data.dataset_files import features
from neuron_vit3d.data.sources import DataError
from neuron_vit3d.data.streaming import StreamedBlocks
from support import processes
from support.hub_server import HubServer
from support.rows import volume_row


FEATURES = features("blocks")
SHAPE = (7, 40, 40)


def stored(image: np.ndarray, mask: np.ndarray, neuron: str, **changes) -> dict:
    row = {
        "neuron_id": neuron,
        "lab": None,
        "neuron_blocks": 6,
        "origin": [0, 0, 0],
        "shape": list(image.shape),
        "dtype": image.dtype.name,
        "image": image.tobytes(),
        "mask": mask.astype(np.uint8).tobytes(),
        "black": 0.0,
        "white": 255.0,
    }
    return {**row, **changes}


def numbered(count: int) -> Dataset:
    """Rows that tell their number by their intensity."""
    mask = np.zeros(SHAPE)
    return Dataset.from_list([stored(np.full(SHAPE, i, np.uint8), mask, f"n{i}") for i in range(count)], FEATURES)


@pytest.fixture(scope="module")
def neurons() -> Dataset:
    """Rows of four neurons, six of each."""
    rows = []
    for seed in range(4):
        neuron = synthetic_neuron((12, 80, 80), seed=seed)
        for z in (0, 5):
            for y, x in ((0, 0), (0, 40), (40, 20)):
                window = (slice(z, z + 7), slice(y, y + 40), slice(x, x + 40))
                rows.append(stored(neuron.volume.array[window], neuron.mask[window], f"n{seed}"))
    return Dataset.from_list(rows, FEATURES)


def stream(rows, **options) -> StreamedBlocks:
    plain = {"augmentation": Augmentation.none(), "tile_size": 24, "rank": 0, "world_size": 1}
    return StreamedBlocks(rows, NeuronViT3DImageProcessor(image_mean=0.0, image_std=1.0), **{**plain, **options})


def numbers(blocks) -> list[int]:
    return [round(float(np.asarray(block["pixel_values"]).flat[0]) * 255) for block in blocks]


def equal(a: dict, b: dict) -> bool:
    return all(np.array_equal(a[key], b[key]) for key in ("pixel_values", "labels"))


SOURCES = {
    "rows": lambda dataset: dataset,
    "one shard": lambda dataset: dataset.to_iterable_dataset(num_shards=1),
    "six shards": lambda dataset: dataset.to_iterable_dataset(num_shards=6),
}


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param]


def test_shapes_and_types(neurons, source):
    for block in islice(stream(source(neurons), augmentation=Augmentation()), 5):
        assert block["pixel_values"].shape == (1, 5, 24, 24) and block["pixel_values"].dtype == np.float32
        assert block["labels"].shape == (1, 24, 24) and block["labels"].dtype == np.int64
        assert set(np.unique(block["labels"])) <= {0, 1, 255}


def test_blocks_are_pieces_of_the_rows(neurons):
    kept = {}
    for row in neurons:
        image, mask = (np.frombuffer(row[name], np.uint8).reshape(SHAPE) for name in ("image", "mask"))
        kept[row["image"]] = image, mask
    for block in islice(stream(neurons, length=24), 24):
        voxels = np.round(block["pixel_values"][0] * 255).astype(np.uint8)
        found = False
        for image, mask in kept.values():
            windows = np.lib.stride_tricks.sliding_window_view(image, (5, 24, 24))
            # Where the corner is the block's, the rest is compared.
            for z, y, x in np.argwhere((windows[..., 0, 0, :3] == voxels[0, 0, :3]).all(axis=3)):
                same = np.array_equal(windows[z, y, x], voxels)
                found |= same and np.array_equal(block["labels"][0], mask[z + 2, y : y + 24, x : x + 24])
        assert found


def test_blocks_meet_the_neuron(neurons):
    rows = neurons.filter(lambda row: b"\1" in row["mask"][2 * 1600 : 5 * 1600])
    shares = [
        np.mean([(b["labels"] == 1).any() for b in islice(stream(rows, foreground_probability=p), 60)]) for p in (0, 1)
    ]
    assert shares[1] == 1 > shares[0]


def test_every_pass_meets_every_row_once_in_a_new_order(source):
    met = numbers(islice(stream(source(numbered(18))), 54))
    passes = [met[:18], met[18:36], met[36:]]
    assert all(sorted(one) == list(range(18)) for one in passes)
    if (
        isinstance(source(numbered(18)), Dataset) or source(numbered(18)).num_shards > 1
    ):  # in a shard, as they were stored
        assert passes[0] != passes[1] != passes[2] and passes[0] != sorted(passes[0])


def test_shards_are_read_in_turn():
    met = numbers(islice(stream(numbered(60).to_iterable_dataset(num_shards=6), interleave=3), 60))
    shards = [number // 10 for number in met]
    assert len(set(shards[:12])) == 3
    assert sum(a != b for a, b in pairwise(shards)) > 20


def test_order_and_blocks_follow_from_seed_and_epoch(neurons, source):
    def blocks(epoch=0, **options):
        made = stream(source(neurons), augmentation=Augmentation(), length=6, **options)
        made.set_epoch(epoch)
        return list(made)

    first = blocks(seed=1)
    assert len(first) == 6
    assert all(equal(*pair) for pair in zip(first, blocks(seed=1), strict=True))
    assert not any(equal(*pair) for pair in zip(first, blocks(seed=2), strict=True))
    assert not any(equal(*pair) for pair in zip(first, blocks(seed=1, epoch=1), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ranks_and_workers_share_the_rows_without_doubles(source, workers):
    """24 rows for 2 ranks: 6 shards for up to 4 workers are dealt whole, of one shard all take every n-th row."""
    met = []
    for rank in range(2):
        blocks = stream(source(numbered(24)), rank=rank, world_size=2, length=12)
        mine = numbers(DataLoader(blocks, batch_size=None, num_workers=workers))
        assert len(mine) == 12
        met += mine
    even = workers == 1 or not isinstance(source(numbered(24)), IterableDataset) or source is SOURCES["one shard"]
    if even:
        assert sorted(met) == list(range(24))
    else:  # two workers have one shard of four rows, two have two: those begin the next pass sooner
        assert len(set(met)) >= 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balance", "shares"),
    [("neuron", (1 / 3, 1 / 3, 1 / 3)), ("lab", (1 / 4, 1 / 4, 1 / 2)), ("volume", (30 / 44, 9 / 44, 5 / 44))],
)
def test_neurons_and_labs_come_equally_often(source, balance, shares):
    """Two neurons of one lab have 30 and 9 rows, that of another has 5."""
    rows = []
    for i, count in enumerate((30, 9, 5)):
        image = np.full(SHAPE, i, np.uint8)
        rows += [stored(image, np.zeros(SHAPE), f"n{i}", lab=f"lab {i // 2}", neuron_blocks=count)] * count
    blocks = numbers(islice(stream(source(Dataset.from_list(rows, FEATURES)), balance=balance), 900))
    assert [blocks.count(i) / 900 for i in range(3)] == pytest.approx(shares, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("used", [0, 1, 5, 13, 30])
def test_resume_in_one_process(neurons, source, used):
    """Blocks mixed with another row's neuron, and in the second pass over the 24 rows, come again as well."""
    varied = replace(Augmentation(), mix=1.0)
    expected = list(islice(stream(source(neurons), augmentation=varied, seed=4), 36))
    stopped = stream(source(neurons), augmentation=varied, seed=4)
    stopped.set_epoch(0)
    list(islice(stopped, used))
    state = json.loads(json.dumps(stopped.state_dict()))
    assert state == {"epoch": 0, "blocks": used}
    resumed = stream(source(neurons), augmentation=varied, seed=4)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    rest = list(islice(resumed, 36 - used))
    assert all(equal(*pair) for pair in zip(expected[used:], rest, strict=True))
    assert resumed.state_dict() == {"epoch": 0, "blocks": 36}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batches", [1, 2, 5])
def test_resume_of_a_loader(neurons, source, workers, batches):
    def loaded(blocks):
        return islice(DataLoader(blocks, batch_size=3, num_workers=workers), 7)

    whole = stream(source(neurons), augmentation=Augmentation(), length=30)
    whole.set_epoch(2)
    expected = list(loaded(whole))
    resumed = stream(source(neurons), augmentation=Augmentation(), length=30)
    resumed.resume(2, batches, 3)
    resumed.set_epoch(2)  # as a loop over epochs does; it changes nothing
    rest = list(loaded(resumed))
    assert all(equal(*pair) for pair in zip(expected[batches:], rest, strict=False))
    resumed.set_epoch(3)
    whole.set_epoch(3)
    if workers != 1:
        pair = next(iter(loaded(resumed))), next(iter(loaded(whole)))
        assert equal(*pair) and not equal(pair[0], expected[0])


def test_to_the_end_of_the_epoch(neurons):
    """After an odd number of batches it is the second worker's turn, but a new loader asks the first one."""
    blocks = stream(neurons, length=24)
    expected = list(DataLoader(blocks, batch_size=2, num_workers=2))
    blocks.resume(0, 3, 2)
    rest = list(DataLoader(blocks, batch_size=2, num_workers=2))
    assert len(rest) == len(expected) - 3
    assert all(equal(*pair) for pair in zip(expected[3:], rest, strict=True))


def test_skipped_blocks_are_not_decoded(neurons, source, monkeypatch):
    decoded = []
    original = streaming._decode
    monkeypatch.setattr(streaming, "_decode", lambda row: decoded.append(row) or original(row))
    blocks = stream(source(neurons))
    blocks.resume(0, 20, 1)
    next(iter(blocks))
    assert len(decoded) == 1


def test_workers_that_live_on_hear_of_the_next_epoch(neurons):
    def epochs(persistent):
        blocks = stream(neurons, augmentation=Augmentation(), length=4)
        loader = DataLoader(blocks, batch_size=2, num_workers=1, persistent_workers=persistent)
        made = []
        for epoch in (0, 1):
            blocks.set_epoch(epoch)
            made += list(loader)
        return made

    kept, fresh = epochs(True), epochs(False)
    assert all(equal(*pair) for pair in zip(kept, fresh, strict=True))
    assert not equal(kept[0], kept[2])


def test_mixing_takes_another_neuron(neurons):
    mixed = stream(neurons, augmentation=replace(Augmentation.none(), mix=1.0))
    plain = stream(neurons)
    more = [
        np.count_nonzero(a["labels"] == 1) - np.count_nonzero(b["labels"] == 1)
        for a, b in islice(zip(mixed, plain, strict=False), 24)
    ]
    assert min(more) >= 0 and np.count_nonzero(more) > 8


def test_rank_from_the_environment(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    made = stream(numbered(4), rank=None, world_size=None)
    assert (made.rank, made.world_size) == (1, 3)


def test_bad_input(neurons):
    with pytest.raises(DataError, match=r"config 'blocks', found none of its column 'black'"):
        stream(neurons.remove_columns(["black"]))
    with pytest.raises(DataError, match="both rank and world_size"):
        stream(neurons, rank=None, world_size=2)
    with pytest.raises(DataError, match="rank from 0 to 1"):
        stream(neurons, rank=2, world_size=2)
    with pytest.raises(DataError, match="one channel, the processor expects 3"):
        StreamedBlocks(neurons, NeuronViT3DImageProcessor(num_channels=3), tile_size=24)
    with pytest.raises(DataError, match="by percentiles, the processor's intensities are 'robust'"):
        StreamedBlocks(neurons, NeuronViT3DImageProcessor(intensities="robust"), tile_size=24)
    with pytest.raises(DataError, match="interleave"):
        stream(neurons, interleave=0)
    with pytest.raises(DataError, match="resume"):
        stream(neurons).resume(0, -1, 2)
    for source in SOURCES.values():
        with pytest.raises(DataError, match="rows"):
            next(iter(stream(source(numbered(6)), rank=7, world_size=8)))
    short = Dataset.from_list(
        [stored(np.zeros(SHAPE, np.uint8), np.zeros(SHAPE), "short") | {"image": b"abc"}], FEATURES
    )
    with pytest.raises(DataError, match=r"short: expected 11200 bytes of image .* found 3"):
        next(iter(stream(short)))


PUSH = """
import sys
from datasets import Dataset
Dataset.load_from_disk(sys.argv[1]).push_to_hub("user/neurons", "blocks", split="train", num_shards=3)
"""

READ = """
import hashlib, json, sys
from itertools import islice
from datasets import load_dataset
from torch.utils.data import DataLoader
from neuron_vit3d import NeuronViT3DImageProcessor
from neuron_vit3d.data.streaming import StreamedBlocks
rows = load_dataset("user/neurons", "blocks", split="train", streaming=True)
def digests(batches):
    blocks = StreamedBlocks(rows, NeuronViT3DImageProcessor(), tile_size=24, seed=5, rank=0, world_size=1, length=40)
    blocks.resume(0, batches, 2)
    loaded = DataLoader(blocks, batch_size=2, num_workers=2)
    both = (b["pixel_values"].numpy().tobytes() + b["labels"].numpy().tobytes() for b in loaded)
    return [hashlib.sha256(one).hexdigest() for one in both]
print(json.dumps([digests(0), digests(7)]))
"""


@pytest.mark.slow
def test_streamed_from_a_hub(neurons, tmp_path):
    neurons.save_to_disk(tmp_path / "rows")
    with HubServer() as hub:
        environment = hub.environment(tmp_path / "home")
        processes.run(["-c", PUSH, tmp_path / "rows"], env=environment, check=True)
        read = processes.run(["-c", READ], env=environment, check=True)
    whole, rest = json.loads(read.stdout.splitlines()[-1])
    assert len(whole) == 20 and len(set(whole)) == 20
    assert rest == whole[7:]


# One process or two; the whole epoch, or from a batch to a batch, and then left.
RUN = """
import hashlib, json, os, sys
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader
from neuron_vit3d import NeuronViT3DImageProcessor
from neuron_vit3d.data.sampling import BlockDataset
from neuron_vit3d.data.streaming import StreamedBlocks
from neuron_vit3d.data.traced_volume import TracedVolume

folder, output, first, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
accelerator = Accelerator()
rank, epoch = accelerator.process_index, 1
processor = NeuronViT3DImageProcessor()
rows = Dataset.load_from_disk(folder + "/blocks")

volumes = TracedVolume.all_of(Dataset.load_from_disk(folder + "/volumes"))
drawn = BlockDataset(volumes, processor, length=32, tile_size=24, seed=3)
loader = accelerator.prepare(DataLoader(drawn, batch_size=2, num_workers=2))
loader.set_epoch(epoch)
loaders = {"drawn": accelerator.skip_first_batches(loader, first)}
for name, source in {"rows": rows, "shards": rows.to_iterable_dataset(num_shards=4)}.items():
    streamed = StreamedBlocks(source, processor, length=16, tile_size=24, seed=3)
    streamed.resume(epoch, first, 2)
    loaders[name] = DataLoader(streamed, batch_size=2, num_workers=2)
digests = {name: [] for name in loaders}
for name, loader in loaders.items():
    for number, batch in enumerate(loader, start=first):
        if number == stop:
            break
        content = batch["pixel_values"].cpu().numpy().tobytes() + batch["labels"].cpu().numpy().tobytes()
        digests[name].append(hashlib.sha256(content).hexdigest())
with open(f"{output}.{rank}.json", "w") as file:
    json.dump([accelerator.num_processes, digests], file)
accelerator.wait_for_everyone()
"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_stopped_run_goes_on_with_the_same_blocks(neurons, tmp_path, ranks):
    """Real processes: drawn from volumes by accelerate's loader, and streamed, by rows and by shards; 8 batches a
    rank."""
    volumes = [volume_row(synthetic_neuron((10, 70, 64), seed=seed), f"n{seed}") for seed in range(3)]
    Dataset.from_list(volumes, features("volumes")).save_to_disk(tmp_path / "volumes")
    neurons.save_to_disk(tmp_path / "blocks")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    alone = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}

    def run(name: str, first: int, stop: int) -> list[dict[str, list[str]]]:
        words = [script, tmp_path, tmp_path / name, first, stop]
        environment = {**alone, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        if ranks == 2:
            processes.run_ranks(2, words, env=environment)
        else:
            processes.run(words, env=environment, check=True)
        results = [json.loads((tmp_path / f"{name}.{rank}.json").read_text()) for rank in range(ranks)]
        assert all(count == ranks for count, _ in results)
        return [digests for _, digests in results]

    whole, stopped, resumed = run("whole", 0, 99), run("stopped", 0, 3), run("resumed", 3, 99)
    for rank in range(ranks):
        for name, expected in whole[rank].items():
            assert len(expected) == (16 if name == "drawn" and ranks == 1 else 8)
            assert stopped[rank][name] == expected[:3]
            assert resumed[rank][name] == expected[3:]
    everything = [digest for digests in whole for one in digests.values() for digest in one]
    assert len(set(everything)) == len(everything)
