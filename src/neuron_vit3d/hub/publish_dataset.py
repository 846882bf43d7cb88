"""publish_dataset: prepared neurons go to the Hub as Parquet, with a card that counts them."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi

from .answers import PublishError, check_name, one_clear_error, token_for
from .cards import dataset_card, picture_path
from .facts import DatasetConfig, DatasetFacts, DataSource, Picture, Recipe, Split


if TYPE_CHECKING:
    from datasets import DatasetDict

_PARTS = ("train", "validation", "test")
_VOLUME_SHARD_BYTES, _BLOCK_SHARD_BYTES = 500_000_000, 100_000_000
_FEWEST_BLOCK_SHARDS = 16  # so that many processes can stream, each from its own
_WHEN_CUT_OFF = "what was uploaded stays there; run the same again, it uploads only what is missing"
_SAY_UNKNOWN = "not stated"
_WHAT = {
    "volumes": "a neuron: the whole image and its tree",
    "blocks": "a piece of an image with its labels: 0 background, 1 neuron, 255 ignored",
}
_HOW_TO_READ = {
    "volumes": 'image = np.frombuffer(b"".join(row["image"]), row["dtype"]).reshape(row["shape"])  # z, y, x',
    "blocks": 'image = np.frombuffer(row["image"], row["dtype"]).reshape(row["shape"])\n'
    'labels = np.frombuffer(row["mask"], np.uint8).reshape(row["shape"])',
}


def publish_dataset(
    configs: "Mapping[str, DatasetDict]",
    repo_id: str,
    *,
    title: str,
    license: str,
    picture: str | os.PathLike | None = None,
    caption: str = "",
    needs: str = "",
    commands: str = "",
    private: bool = False,
    token: str | None = None,
) -> str:
    """Uploads the configurations "volumes" and "blocks" of a prepared dataset, then a card made of what is in them.

    Blocks are shuffled first, so that whoever streams them meets all neurons early. Interrupted, the same call goes on.

    Args:
        configs: by name, as [`load_bigneuron`] gives them.
        repo_id: `"name/repository"`; made where it does not exist.
        title: of the card.
        license: of the whole, as the Hub spells it (`cc-by-4.0`, `other`).
        picture, caption: shown on the card.
        needs, commands: how it is made again: what that needs, and the shell commands.
        private: make a new repository private.
        token: of the Hub; None: the one that `hf auth login` or HF_TOKEN left.

    Returns:
        The address of the commit with the card.

    Raises:
        PublishError (an OSError): the Hub cannot be reached or refuses.
    """
    check_name(repo_id)
    token = token_for(repo_id, token)
    api = HfApi(token=token)
    with one_clear_error(repo_id, _WHEN_CUT_OFF):
        for name, parts in configs.items():
            parts = parts.shuffle(seed=0, keep_in_memory=True) if name == "blocks" else parts
            shards = {part: _num_shards(name, dataset) for part, dataset in parts.items()}
            parts.push_to_hub(repo_id, name, num_shards=shards, private=private or None, token=token)
        files = api.list_repo_tree(repo_id, repo_type="dataset", recursive=True)
        size = sum(getattr(file, "size", 0) or 0 for file in files if file.path.endswith(".parquet"))
        facts = dataset_facts(
            configs,
            title=title,
            license=license,
            picture=Picture(Path(picture), caption) if picture else None,
            size_bytes=size,
            make_again=Recipe(needs, commands),
        )
        with tempfile.TemporaryDirectory(prefix="neuron_vit3d_") as cache:
            written = DatasetCard.load(api.hf_hub_download(repo_id, "README.md", repo_type="dataset", cache_dir=cache))
        card = dataset_card(facts, repo_id)
        for key in ("configs", "dataset_info"):  # which files belong to which part: the upload wrote it
            setattr(card.data, key, getattr(written.data, key))
        operations = [CommitOperationAdd("README.md", str(card).encode())]
        if facts.picture:
            operations.append(CommitOperationAdd(picture_path(facts), facts.picture.file))
        commit = api.create_commit(repo_id, operations, commit_message="Card", repo_type="dataset")
        return commit.commit_url


def dataset_facts(
    configs: "Mapping[str, DatasetDict]",
    *,
    title: str,
    license: str,
    picture: Picture | None,
    size_bytes: int,
    make_again: Recipe,
) -> DatasetFacts:
    """What is in a prepared dataset, by laboratory, for its card. Only small columns are read."""
    if "volumes" not in configs:
        raise PublishError("expected the configuration 'volumes', by which the neurons are counted")
    labs = defaultdict(lambda: defaultdict(list))  # laboratory -> column or part -> values
    for part, dataset in configs["volumes"].items():
        columns = ["neuron_id", "lab", "species", "microscopy", "licence", "shape", "dtype"]
        for row in dataset.select_columns(columns):
            lab = labs[row["lab"] or "laboratory not stated"]
            lab[part].append(row["neuron_id"])
            for column in columns[2:]:
                lab[column].append(row[column])
    sources = []
    for name, lab in sorted(labs.items()):
        split = Split(*(sorted(lab[part]) for part in _PARTS))
        low, high = ([bound(axis) for axis in zip(*lab["shape"], strict=True)] for bound in (min, max))
        about = [*_distinct(lab["species"]), *_distinct(lab["microscopy"]), *_distinct(lab["dtype"])]
        sizes = " x ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(low, high, strict=True))
        sources.append(
            DataSource(
                name=name,
                hub_id=None,
                license=", ".join(_distinct(lab["licence"])) or _SAY_UNKNOWN,
                what=f"{', '.join(about)}, {sizes} voxels (z x y x x)",
                volumes=sum(split.counts().values()),
                split=split,
            )
        )
    count = sum(source.volumes for source in sources)
    return DatasetFacts(
        title=title,
        summary=f"{count} neurons in 3D light microscopy, each with the tree that a human traced, for training and testing "
        "segmentation and tracing.",
        license=license,
        tags=["neuroscience", "microscopy", "neuron-segmentation", "neuron-tracing", "neuron-vit3d"],
        data=sources,
        configs=[
            DatasetConfig(
                name=name,
                what=_WHAT[name],
                rows=Split(*(len(parts[part]) if part in parts else 0 for part in _PARTS)),
                how_to_read=_HOW_TO_READ[name],
            )
            for name, parts in configs.items()
        ],
        size_bytes=size_bytes,
        picture=picture,
        limits="Trees were drawn by hand and miss what was not meant to be traced: signal without a label may be another "
        "neuron. Radii are coarse. Pairs whose tree does not lie on the image's signal were left out.",
        make_again=make_again,
    )


def _num_shards(config: str, dataset) -> int:
    """Files of a part: about one a shard's size, never more than rows."""
    size = dataset.data.nbytes
    if config == "blocks":
        return min(len(dataset), max(_FEWEST_BLOCK_SHARDS, size // _BLOCK_SHARD_BYTES + 1))
    return min(len(dataset), size // _VOLUME_SHARD_BYTES + 1)


def _distinct(values) -> list[str]:
    return sorted({value for value in values if value})
