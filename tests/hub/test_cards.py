"""Cards: every number from a report, every fact there, no hole; and what keeps one from being made is one clear
error."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from neuron_vit3d.hub import CardError, DatasetFacts, dataset_card, model_card, read_facts
from neuron_vit3d.hub.cards import TEMPLATES, render
from neuron_vit3d.inference import DEFAULT_CHECKPOINT
from support import processes
from support.hub_server import HubServer
from support.places import REPOSITORY
from support.tiny_cards import FACTS, LOG, REPORT, save_facts, save_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def test_a_card_has_every_number_and_every_fact(run, tmp_path):
    card = model_card(run, save_facts(tmp_path), "user/tiny")
    text = " ".join(card.text.split())
    for volume in REPORT["volumes"]:
        values = [
            f"{volume[key]:.3f}" if volume[key] else "not defined" for key in ("dice", "cldice", "tree_f1", "esa")
        ]
        assert " | ".join([volume["name"], *values, f"{volume['seconds']:.0f}"]) in text
    for said in (
        FACTS["summary"],
        FACTS["limits"],
        "python scripts/train.py --seed 0",
        "![example](figures/example.png) A gray square.",
        "ViT-B/16 of DINO ([facebook/dino-vitb16](https://huggingface.co/facebook/dino-vitb16)), licence Apache-2.0",
        'blocks of 3 slices, inflation "center"; the center slice is labelled',
        "30 steps of 8 tiles of 224 x 224 in a batch, AdamW with learning rate 0.001 (encoder 0.0001), seed 7",
        "Best step 20 by Dice on 1 validation volumes (0.712 at its best threshold)",
        "Weights: float32 safetensors",
        r"| tiny neurons | MIT | drawn \| by hand | 4 | 2 | 1 | 1 |",
        "- Training, tiny neurons: ann, bob - Test, tiny neurons: cid",
        "The weights are under apache-2.0, the base model's under Apache-2.0",
        f"Measured by `{REPORT['command']}` ({REPORT['machine']})",
    ):
        assert said in text


def test_the_metadata_comes_back_as_it_was(run, tmp_path):
    card = model_card(run, save_facts(tmp_path), "user/tiny")
    card.save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "image-segmentation")
    assert (data.tags, data.base_model, data.model_name) == (FACTS["tags"], "facebook/dino-vitb16", "tiny")
    assert data.eval_results == card.data.eval_results
    found = {(result.dataset_name, result.metric_type): result.metric_value for result in data.eval_results}
    expected = {
        (volume["name"], key): value
        for volume in REPORT["volumes"]
        for key, value in volume.items()
        if key not in ("name", "seconds") and value is not None
    }
    assert found == expected
    # Two volumes with one identifier would become one, and the Hub takes no other characters.
    identifiers = {result.dataset_type for result in data.eval_results}
    assert identifiers == {"fly-brain-1", "mouse_2"}


def test_the_examples_are_short_python(run, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", model_card(run, save_facts(tmp_path), "user/tiny").text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "card", "exec")
        assert len([line for line in block.splitlines() if line]) <= 5
    assert 'pipeline("neuron-segmentation", model="user/tiny", trust_remote_code=True)' in blocks[0]
    assert 'neuron_vit3d.segment("image.tif", "user/tiny")' in blocks[1]


def test_what_there_is_not_is_not_told(run, tmp_path):
    other = tmp_path / "run"
    other.mkdir()
    for name in ("config.json", "model.safetensors"):
        (other / name).write_bytes((run / name).read_bytes())
    base = {**FACTS["base_model"], "hub_id": None}
    card = model_card(other, save_facts(tmp_path, evaluation=[], picture=None, base_model=base), "user/tiny")
    assert "Not measured yet." in card.text
    for absent in ("Training:", "![", "None", "huggingface.co"):
        assert absent not in card.text
    assert not {"base_model", "model-index", "model_name", "datasets"} & set(card.data.to_dict())
    log = "".join(json.dumps(line) + "\n" for line in LOG[:1])
    (other / "log.jsonl").write_text(log)  # of a run without validation
    card = model_card(other, tmp_path / "facts.yaml", "user/tiny")
    assert "Training: 10 steps.\n" in card.text and "Best step" not in card.text


def test_an_undefined_variable_is_an_error():
    with pytest.raises(CardError, match="template: 'facts' is undefined"):
        render("{{ facts.title }}")
    with pytest.raises(CardError, match="no attribute 'titel'"):
        render("{{ facts.titel }}", facts=object())


def changed(*path, to=...) -> dict:
    """FACTS with one value changed, or taken out."""
    facts = copy.deepcopy(FACTS)
    inner = facts
    for key in path[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return facts


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (changed("limits"), "limits is missing"),
        (changed("data", 0, "license"), r"data\[0\]\.license is missing"),
        (changed("base_model", "huh", to=1), r"base_model\.huh is unknown; the keys here are name, hub_id"),
        (changed("titel", to="x"), "titel is unknown"),
        (changed("title", to=""), "title: expected text, found ''"),
        (changed("license", to=2.0), r"license: expected text, found 2\.0"),
        (changed("tags", to="a"), "tags: expected a list, found 'a'"),
        (changed("tags", to=[1]), r"tags\[0\]: expected text, found 1"),
        (changed("data", to=[3]), r"data\[0\]: expected the keys name, .* found 3"),
        (changed("data", 0, "volumes", to=-1), r"data\[0\]\.volumes: expected a number, at least 0, found -1"),
        (changed("data", 0, "volumes", to=5), r"data\[0\]\.split: 2 \+ 1 \+ 1 neurons, but data\[0\]\.volumes is 5"),
        (changed("data", 0, "split", "test", to=["ann"]), r"data\[0\]\.split\.test: ann is named twice"),
        (changed("data", 0, "split", "test", to="cid"), r"data\[0\]\.split\.test: expected a number"),
        (changed("base_model", "hub_id", to="a b/c"), r"base_model\.hub_id: expected a name on the Hub"),
        (changed("picture", "file", to="none.png"), r"picture\.file: no such file: none\.png"),
        (changed("evaluation", 0, "report", to="x.json"), r"evaluation\[0\]\.report: no such file: x\.json"),
        ("a: [", "expected YAML"),
        ("- 1", "the file: expected the keys title, summary"),
    ],
)
def test_wrong_facts_are_one_clear_error(facts, message, tmp_path):
    path = save_facts(tmp_path)
    path.write_text(facts if isinstance(facts, str) else yaml.safe_dump(facts))
    with pytest.raises(CardError, match=message) as error:
        read_facts(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({**REPORT, "machine": ""}, "machine: expected a str that is not empty"),
        ({**REPORT, "volumes": []}, "volumes: expected a list that is not empty"),
        ({**REPORT, "volumes": [{"dice": 1}]}, r"volumes\[0\]: expected a name and numbers"),
        ({**REPORT, "volumes": [{"name": "a", "dice": "0.5"}]}, r"volumes\[0\]\.dice: expected a number or null"),
        (
            {**REPORT, "volumes": [{"name": "a b", "dice": 1.0}, {"name": "a-b", "dice": 1.0}]},
            "'a-b' is evaluated twice",
        ),
        ([], "expected an evaluation report"),
    ],
)
def test_wrong_reports_are_one_clear_error(run, report, message, tmp_path):
    with pytest.raises(CardError, match=rf"tiny\.json: .*{message}|tiny\.json: {message}"):
        model_card(run, save_facts(tmp_path, report), "user/tiny")


def test_damaged_files_of_a_checkpoint_are_one_clear_error(run, tmp_path):
    facts = read_facts(save_facts(tmp_path))
    with pytest.raises(CardError, match=r"config\.json: cannot be read: No such file"):
        model_card(tmp_path / "nowhere", facts)
    other = tmp_path / "run"
    other.mkdir()
    for config, message in (
        ("{", "expected JSON"),
        ('{"model_type": "vit"}', "expected a neuron_vit3d checkpoint, found a model of type 'vit'"),
        ('{"model_type": "neuron_vit3d", "num_slices": 4}', "num_slices must be odd"),
        ('{"model_type": "neuron_vit3d", "num_slices": "4"}', "Field 'num_slices' expected int, got str"),
    ):
        (other / "config.json").write_text(config)
        with pytest.raises(CardError, match=rf"config\.json: .*{message}") as error:
            model_card(other, facts)
        assert "\n" not in str(error.value)
    (other / "config.json").write_bytes((run / "config.json").read_bytes())
    with pytest.raises(CardError, match="has no weights"):
        model_card(other, facts)
    (other / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CardError, match=r"model\.safetensors: expected weights in safetensors"):
        model_card(other, facts)
    (other / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    (other / "log.jsonl").write_text('{"step": 1}\n{"st')
    with pytest.raises(CardError, match=r"log\.jsonl: line 2: expected JSON"):
        model_card(other, facts)
    (other / "log.jsonl").write_text("[]\n")
    with pytest.raises(CardError, match=r"log\.jsonl: expected a JSON object with a step"):
        model_card(other, facts)


def test_a_data_set_has_a_card(tmp_path):
    kept = {
        key: FACTS[key] for key in ("title", "summary", "license", "tags", "data", "picture", "limits", "make_again")
    }
    path = save_facts(tmp_path)
    rows = {"train": 2, "validation": 1, "test": 1}
    configs = [{"name": "volumes", "what": "an image", "rows": rows, "how_to_read": 'image = row["image"]'}]
    path.write_text(yaml.safe_dump({**kept, "configs": configs, "size_bytes": 12_300_000}))
    dataset_card(path, "user/neurons").save(tmp_path / "README.md")
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.to_dict() == {
        "license": "apache-2.0",
        "pretty_name": "A tiny checkpoint",
        "tags": FACTS["tags"],
        "task_categories": ["image-segmentation"],
        "size_categories": ["n<1K"],
    }
    for said in (
        'load_dataset("user/neurons", "volumes"',
        "| `volumes` | an image | 2 | 1 | 1 |",
        'image = row["image"]',
        "4 neurons, 12.3 MB",
        "| MIT |",
        "![example](figures/example.png)",
    ):
        assert said in card.text
    facts = read_facts(path, DatasetFacts)
    many = replace(facts.data[0], volumes=20_000)
    assert dataset_card(replace(facts, data=[many]), "user/neurons").data.size_categories == ["10K<n<100K"]
    with pytest.raises(CardError, match="base_model is missing"):
        read_facts(path)


def test_the_embedded_default_has_the_card_that_is_made_of_its_facts():
    """Nobody edits it by hand: python experiments/embed_default.py --card-only"""
    for facts in (REPOSITORY / "model_cards" / "default.yaml", DEFAULT_CHECKPOINT / "facts.yaml"):
        assert (DEFAULT_CHECKPOINT / "README.md").read_text() == str(model_card(DEFAULT_CHECKPOINT, facts))
    for copy_of in ("model_cards/default.png", "benchmarks/results/default_on_real.json"):
        original = REPOSITORY / copy_of
        assert (DEFAULT_CHECKPOINT / original.name).read_bytes() == original.read_bytes()
    assert (REPOSITORY / "model_cards" / "default.png").stat().st_size < 300_000


@pytest.mark.parametrize("path", sorted((REPOSITORY / "model_cards").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_facts_file_can_be_read_and_its_results_were_measured(path):
    facts = read_facts(path)
    assert facts.evaluation
    for evaluation in facts.evaluation:
        report = json.loads(evaluation.report.read_text())
        assert report["command"].startswith("benchmarks/basics.py volumes")
        assert len(report["volumes"]) == {"default": 13, "three_slices": 3}[path.stem]
        assert all({"name", "dice", "tree_f1", "seconds"} <= volume.keys() for volume in report["volumes"])


def test_the_embedded_default_has_no_code():
    assert not list(DEFAULT_CHECKPOINT.rglob("*.py"))
    for path in DEFAULT_CHECKPOINT.glob("*config.json"):
        assert not {"auto_map", "custom_pipelines"} & set(json.loads(path.read_text()))


def test_templates_are_found_among_the_cards():
    for path in sorted(TEMPLATES.glob("*.j2")):
        link = REPOSITORY / "model_cards" / path.name
        assert link.is_symlink() and link.resolve() == path.resolve() and not Path(link.readlink()).is_absolute()


VALIDATE = """
import json, sys
from huggingface_hub import ModelCard
card = ModelCard.load(sys.argv[1])
card.validate()
results = card.data.eval_results
print(json.dumps([[result.dataset_name, result.metric_type, result.metric_value] for result in results]))
"""


@pytest.mark.slow
def test_the_hub_accepts_the_embedded_defaults_card_and_its_results_are_the_reports(tmp_path):
    with HubServer() as hub:
        done = processes.run(["-c", VALIDATE, DEFAULT_CHECKPOINT / "README.md"], env=hub.environment(tmp_path))
        assert done.returncode == 0, done.stderr
        assert [path for _, path in hub.requests] == ["/api/validate-yaml"]
    report = json.loads((REPOSITORY / "benchmarks" / "results" / "default_on_real.json").read_text())
    expected = [
        [volume["name"], key, value] for volume in report["volumes"] for key, value in volume.items()
        if key not in ("name", "seconds")
    ]  # fmt: skip
    assert json.loads(done.stdout) == expected
