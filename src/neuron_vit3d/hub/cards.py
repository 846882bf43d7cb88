"""Writes the cards of models and data sets.

They hold facts that a human stated, and numbers read off the checkpoint and its evaluation reports.
"""

import math
import os
import re
from pathlib import Path

import jinja2
from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from .evidence import EvaluationReport, read_config, read_report, read_training, stored_weights
from .facts import CardError, DatasetFacts, ModelFacts, Picture, read_facts


TEMPLATES = Path(__file__).parent
PICTURE = "figures/example"  # where a published folder has the picture; its suffix is kept

# Key in a report -> what people call it. Keys that are not here are shown as they are.
METRIC_NAMES = {
    "dice": "Dice",
    "cldice": "clDice",
    "iou": "IoU",
    "hd95": "HD95 (voxels)",
    "tree_f1": "tree F1",
    "tree_precision": "tree precision",
    "tree_recall": "tree recall",
    "esa": "ESA (voxels)",
    "dsa": "DSA (voxels)",
    "pds": "PDS",
}
_NOT_METRICS = {"seconds"}  # depends on the machine: in the table, not among the results


def model_card(
    checkpoint: str | os.PathLike, facts: ModelFacts | str | os.PathLike, repo_id: str | None = None
) -> ModelCard:
    """Makes the card of a checkpoint.

    Args:
        checkpoint: folder with the weights, config.json, and what training left (log.jsonl or training_log.jsonl,
            training_config.json) where there is any.
        facts: [`ModelFacts`], or the path of their file.
        repo_id: where the checkpoint is going to be on the Hub; None: it is the default embedded in the package, whose
            card shows no picture because none lies beside it.

    Raises:
        CardError: facts, report, training log or configuration lack something or cannot be read.
    """
    if not isinstance(facts, ModelFacts):
        facts = read_facts(facts, ModelFacts)
    folder = Path(checkpoint)
    reports = [read_report(evaluation.report) for evaluation in facts.evaluation]
    results = eval_results(reports)
    data = ModelCardData(
        license=facts.license,
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=facts.tags,
        base_model=facts.base_model.hub_id,
        datasets=[source.hub_id for source in facts.data if source.hub_id] or None,
        model_name=(repo_id or facts.title).split("/")[-1],
        eval_results=results or None,
    )
    if not results:
        data.model_name = None  # belongs to results, and the Hub would not know it
    config = read_config(folder)
    text = render(
        (TEMPLATES / "model_card.md.j2").read_text(encoding="utf-8"),
        metadata=data.to_yaml(),
        facts=facts,
        repo_id=repo_id,
        picture=picture_path(facts.picture) if repo_id and facts.picture else None,
        config=config,
        weights=stored_weights(folder),
        training=read_training(folder),
        evaluations=list(zip(facts.evaluation, map(_table, reports), reports, strict=True)),
    )
    return ModelCard(text)


def dataset_card(facts: DatasetFacts | str | os.PathLike, repo_id: str) -> DatasetCard:
    """Makes the card of a data set on the Hub, from [`DatasetFacts`] or the path of their file. Raises CardError."""
    if not isinstance(facts, DatasetFacts):
        facts = read_facts(facts, DatasetFacts)
    volumes = sum(source.volumes for source in facts.data)
    data = DatasetCardData(
        license=facts.license,
        pretty_name=facts.title,
        tags=facts.tags,
        task_categories=["image-segmentation"],
        size_categories=[_size_category(volumes)],
    )
    text = render(
        (TEMPLATES / "dataset_card.md.j2").read_text(encoding="utf-8"),
        metadata=data.to_yaml(),
        facts=facts,
        repo_id=repo_id,
        picture=picture_path(facts.picture) if facts.picture else None,
        volumes=volumes,
    )
    return DatasetCard(text)


def eval_results(reports: list[EvaluationReport]) -> list[EvalResult]:
    """Lists every finite metric of every volume, for the card's metadata."""
    results, seen = [], set()
    for report in reports:
        for volume in report.volumes:
            # The Hub takes letters, digits, - _ . here, and one volume's results for all with the same.
            identifier = re.sub(r"[^\w.-]+", "-", volume["name"], flags=re.ASCII)
            if identifier in seen:
                raise CardError(f"{report.path}: volume {volume['name']!r} is evaluated twice")
            seen.add(identifier)
            results += [
                EvalResult(
                    task_type="image-segmentation",
                    task_name="3D neuron segmentation",
                    dataset_type=identifier,
                    dataset_name=volume["name"],
                    metric_type=key,
                    metric_name=METRIC_NAMES.get(key, key),
                    metric_value=value,
                )
                for key, value in volume.items()
                if key != "name" and key not in _NOT_METRICS and value is not None and math.isfinite(value)
            ]
    return results


def picture_path(picture: Picture) -> str:
    """Returns the place of the picture in a published folder."""
    return PICTURE + picture.file.suffix.lower()


def render(template: str, **values) -> str:
    """Fills a Jinja template with its values.

    Raises CardError where a value is missing, which would leave a hole.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")
    try:
        return environment.from_string(template).render(**values)
    except jinja2.TemplateError as error:
        raise CardError(f"the card's template: {error}") from error


def _table(report: EvaluationReport) -> dict[str, list[str]]:
    """Writes the report as text: a head, and a row for each volume."""
    keys = list(dict.fromkeys(key for volume in report.volumes for key in volume if key != "name"))
    rows = [[volume["name"], *(_number(key, volume.get(key)) for key in keys)] for volume in report.volumes]
    return {"head": ["volume", *(METRIC_NAMES.get(key, key) for key in keys)], "rows": rows}


def _number(key: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "not defined"
    return f"{value:.0f}" if key == "seconds" or isinstance(value, int) else f"{value:.3f}"


def _size_category(count: int) -> str:
    """Returns the Hub's name for the size of a data set."""
    bounds = ["1K", "10K", "100K", "1M"]
    for index, bound in enumerate(bounds):
        if count < 1000 * 10**index:
            return f"n<{bound}" if index == 0 else f"{bounds[index - 1]}<n<{bound}"
    return "n>1M"
