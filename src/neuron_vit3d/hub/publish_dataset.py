"""Publishes prepared neurons on the Hub as Parquet, with a card that counts them."""

import contextlib
import dataclasses
import hashlib
import os
import re
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData, HfApi
from huggingface_hub.hf_api import RepoFile

from .answers import (
    PublishError,
    check_card,
    check_may_write,
    check_name,
    existing_repository,
    one_clear_error,
    token_for,
)
from .assemble import without_bars
from .cards import dataset_card, picture_path
from .facts import DatasetConfig, DatasetFacts, DataSource, Picture, Recipe, Split


if TYPE_CHECKING:
    from datasets import DatasetDict

_DEFAULT = "volumes"  # the configuration that the Hub shows, and `load_dataset` gives where none is named
_PARTS = tuple(field.name for field in dataclasses.fields(Split))
_VOLUME_SHARD_BYTES, _BLOCK_SHARD_BYTES = 500_000_000, 100_000_000
_FEWEST_BLOCK_SHARDS = 16  # so that many processes can stream, each from its own
_README = "README.md"
_WHEN_CUT_OFF = (
    "what was uploaded stays there, and until the rest is, a neuron may be in test of one configuration and in train "
    "of another; run the same again, it uploads only what is missing"
)
_NOT_BEGUN = "nothing was uploaded; run the same again"
# Ends the text of our cards; the digits are of the text above it, by which we know whether somebody has edited it.
_MARK = "<!-- made by neuron_vit3d, which replaces this text as long as nobody has edited it: {digits} -->"
_MARKED = re.compile(re.escape(_MARK).replace(r"\{digits\}", "([0-9a-f]{16})") + r"\s*\Z")
_SAY_UNKNOWN = "not stated"
_WHAT = {
    "volumes": "a neuron: the whole image and its tree, a picture, and measures",
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
    """Uploads the configurations "volumes" and "blocks" of a prepared dataset, then a card that counts them.

    Blocks are shuffled first, so that whoever streams them meets all neurons early. After an interruption the same
    call goes on. Each configuration is one commit, and the card another. If the repository held another split before,
    a neuron may, between these commits, be in test of one configuration and in train of the other: nobody should train
    on it until the call has ended.

    A README.md that somebody else has written, or edited, keeps its text and metadata, with a warning; only the
    license, the configurations and what the metadata lack are set.

    Args:
        configs: by name, as [`load_bigneuron`] gives them.
        repo_id: `"name/repository"`; made where it does not exist.
        title: of the card.
        license: of the whole, as the Hub spells it (`cc-by-4.0`, `other`).
        picture, caption: shown on the card.
        needs, commands: how it is made again: what that needs, and the shell commands.
        private: make a new repository private, and refuse one that is public.
        token: of the Hub; None: the one that `hf auth login` or HF_TOKEN left.

    Returns:
        The address of the commit with the card.

    Raises:
        PublishError (an OSError): as [`check_can_publish`], before anything is uploaded; later: the Hub cannot be
            reached or refuses.
        ValueError: the picture is no file; nothing was uploaded.
    """
    api = _checked_api(repo_id, license, private, token)
    facts = dataset_facts(
        configs,
        title=title,
        license=license,
        picture=Picture(Path(picture), caption) if picture else None,
        size_bytes=0,
        make_again=Recipe(needs, commands),
    )
    shown = [CommitOperationAdd(picture_path(facts.picture), facts.picture.file)] if facts.picture else []
    with one_clear_error(repo_id, _WHEN_CUT_OFF), _without_bars_in_a_log():
        for name, parts in configs.items():
            parts = parts.shuffle(seed=0, keep_in_memory=True) if name == "blocks" else parts
            shards = {part: _num_shards(name, dataset) for part, dataset in parts.items()}
            parts.push_to_hub(repo_id, name, num_shards=shards, private=private or None, token=api.token)
        files = api.list_repo_tree(repo_id, repo_type="dataset", recursive=True)
        pushed = [file for file in files if file.path.endswith(".parquet") and file.path.partition("/")[0] in configs]
        facts = dataclasses.replace(facts, size_bytes=sum(file.size for file in pushed if isinstance(file, RepoFile)))
        written = _readme(api, repo_id)  # the upload's, or an older one with which files belong to which part
        operations = [CommitOperationAdd(_README, _merged(dataset_card(facts, repo_id), written).encode())]
        operations += shown if _is_ours(written.text) else []
        commit = api.create_commit(repo_id, operations, commit_message="Card", repo_type="dataset")
        return commit.commit_url


def check_can_publish(repo_id: str, *, license: str, private: bool = False, token: str | None = None) -> None:
    """Finds, before hours of work, the reasons for which [`publish_dataset`] would be refused. Changes nothing.

    Args:
        repo_id, license, private, token: as there.

    Raises:
        PublishError (an OSError): the name cannot be one on the Hub; the Hub cannot be reached, or HF_HUB_OFFLINE
            forbids it; there is no token, or it may not write there; the Hub does not know the license; the repository
            is public and should be private, or the metadata of its README.md cannot be read.

    Warns (UserWarning) where the repository has a README.md that is going to be kept.
    """
    _checked_api(repo_id, license, private, token)


def dataset_facts(
    configs: "Mapping[str, DatasetDict]",
    *,
    title: str,
    license: str,
    picture: Picture | None,
    size_bytes: int,
    make_again: Recipe,
) -> DatasetFacts:
    """Counts what is in a prepared dataset, by laboratory, for its card. Only small columns are read."""
    if "volumes" not in configs:
        raise PublishError("expected the configuration 'volumes', by which the neurons are counted")
    labs: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))  # laboratory -> column or part -> values
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
        summary=f"{count} neurons in 3D light microscopy, each with the tree that a human traced, for training and "
        "testing segmentation and tracing.",
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
        limits="Trees were drawn by hand and miss what was not meant to be traced: signal without a label may be "
        "another neuron. Radii are coarse. Pairs whose tree does not lie on the image's signal were left out.",
        make_again=make_again,
    )


def _num_shards(config: str, dataset) -> int:
    """Returns the number of files of a part: as many as shards of the usual size, but no more than rows."""
    size = dataset.data.nbytes
    if config == "blocks":
        return min(len(dataset), max(_FEWEST_BLOCK_SHARDS, size // _BLOCK_SHARD_BYTES + 1))
    return min(len(dataset), size // _VOLUME_SHARD_BYTES + 1)


def _distinct(values) -> list[str]:
    return sorted({value for value in values if value})


def _with_default(configs: list[dict]) -> list[dict]:
    """The configurations of a card, with "volumes" as what is shown first, unless somebody chose another.

    `push_to_hub(set_default=True)` would take it away again when the same is pushed a second time.
    """
    if any(one.get("config_name") == "default" or one.get("default") for one in configs):
        return configs
    return [one | ({"default": True} if one.get("config_name") == _DEFAULT else {}) for one in configs]


def _checked_api(repo_id: str, license: str, private: bool, token: str | None) -> HfApi:
    check_name(repo_id)
    api = HfApi(token=token_for(repo_id, token))
    with one_clear_error(repo_id, _NOT_BEGUN), _without_bars_in_a_log():
        info = existing_repository(api, repo_id, "dataset", private)
        check_may_write(api, repo_id, info)
        readme = _readme(api, repo_id) if info and any(f.rfilename == _README for f in info.siblings or []) else None
        card = readme or DatasetCard("---\nlicense: other\n---\n")
        card.data["license"] = license
        check_card(repo_id, card, "the license" if readme is None else f"the license, or its {_README} there")
    if readme and not _is_ours(readme.text):
        warnings.warn(
            f"{repo_id}: has a {_README} with a text of its own, which is kept: no card is made (delete it to get "
            "one)",
            stacklevel=3,
        )
    return api


def _readme(api: HfApi, repo_id: str) -> DatasetCard:
    with tempfile.TemporaryDirectory(prefix="neuron_vit3d_") as cache:
        path = api.hf_hub_download(repo_id, _README, repo_type="dataset", cache_dir=cache)
        try:
            return DatasetCard.load(path)
        except (ValueError, TypeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise PublishError(f"{repo_id}: correct the metadata of its {_README} there first: {reason}") from error


def _merged(card: DatasetCard, written: DatasetCard) -> str:
    """Makes the README.md: our card above the metadata there, or below them where the text there is not ours."""
    ours, there = card.data.to_dict(), written.data.to_dict()
    there |= {"configs": _with_default(there["configs"])} if "configs" in there else {}
    if _is_ours(written.text):
        data, text = there | ours, f"{card.text.rstrip()}\n\n{_MARK.format(digits=_digits(card.text))}\n"
    else:
        data, text = there | {key: ours[key] for key in ours if key not in there or key == "license"}, written.text
    return f"---\n{DatasetCardData(**data).to_yaml()}\n---\n{text}"


def _is_ours(text: str) -> bool:
    """Tells whether nobody else wrote in the text of a README.md; the one that datasets writes has no text."""
    mark = _MARKED.search(text)
    return not text.strip() or bool(mark and mark[1] == _digits(text[: mark.start()]))


def _digits(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:16]


@contextlib.contextmanager
def _without_bars_in_a_log() -> Iterator[None]:
    """Hides the progress bars of datasets and huggingface_hub where stderr is no terminal.

    A log needs the error only.
    """
    import datasets

    if sys.stderr.isatty():
        yield
        return
    hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with without_bars():
            yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()
