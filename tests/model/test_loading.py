"""Whatever keeps a checkpoint from loading is one clear error, in one line, through every door of the package."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor, NeuronViT3DModel, segment
from neuron_vit3d.inference import load_checkpoint
from neuron_vit3d.model.loading import CheckpointError, conversion_line, picture_statistics
from support import processes
from support.hub_server import HubServer
from support.program import save_checkpoint
from support.tiny_models import model_2d, save_2d, tiny_block, tiny_model


def with_pickle(folder: Path) -> Path:
    """Turns a saved checkpoint's weights into a pickle."""
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# -- on the Hub ------------------------------------------------------------------------------------------------------

# name -> what each door says of it, after the name
SAID = {
    "user/nothing": "no such folder here and no such name on the Hub",
    "user/gated": "is gated: accept its conditions on its page on the Hub",
    "user/pickled": "has its weights in pytorch_model.bin only",
    "user/empty": "has no weights",
    "not a name": "no such folder here, and no name on the Hub can be spelled like this",
    "user/good@nowhere": r"has no such revision \(branch, tag or commit\)",
}

ASK = """
import json, sys
from neuron_vit3d import NeuronViT3DForSegmentation, segment
from neuron_vit3d.inference import load_checkpoint

doors = {
    "from_pretrained": NeuronViT3DForSegmentation.from_pretrained,
    "from_pretrained_2d": NeuronViT3DForSegmentation.from_pretrained_2d,
    "load_checkpoint": load_checkpoint,
}
said = {}
for asked in sys.argv[2:]:
    name, _, revision = asked.partition("@")
    for door, load in doors.items():
        if door not in sys.argv[1].split():
            continue
        if door == "load_checkpoint" and revision:
            continue
        try:
            of_door = name + "-2d" if door == "from_pretrained_2d" and "/" in name else name
            load(of_door, **({"revision": revision} if revision else {}))
            said[f"{asked} {door}"] = "loaded"
        except Exception as error:
            said[f"{asked} {door}"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


def ask(environment: dict, names, doors="from_pretrained from_pretrained_2d load_checkpoint") -> dict[str, str]:
    """What the doors say of each name, asked in a process of its own: the clients read their settings once."""
    at_once = "import time; time.sleep = lambda seconds: None\n"  # the clients wait before they try again
    done = processes.run(["-c", at_once + ASK, doors, *names], env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repositories")
    with HubServer() as server:
        for name in ("good", "gated", "pickled", "empty"):
            for kind, saved in (("", save_checkpoint(folder / name)), ("-2d", save_2d(folder / f"{name}-2d"))):
                if name == "pickled":
                    with_pickle(saved)
                if name == "empty":
                    (saved / "model.safetensors").unlink()
                server.add_folder(f"user/{name}{kind}", saved, gated=name == "gated")
        yield server


@pytest.mark.slow
def test_what_is_wrong_on_the_hub_is_said_in_one_line(hub, tmp_path):
    said = ask(hub.environment(tmp_path, token="reader"), ["user/good", *SAID])
    assert len(said) == 20
    for asked, words in said.items():
        name = asked.split()[0] if "/" in asked else "not a name"
        if name == "user/good":
            assert words == "loaded", asked
        else:
            named = name.split("@")[0] + ("-2d" if asked.endswith("_2d") and "/" in name else "")
            assert words.startswith(f"CheckpointError: {named}: "), (asked, words)
            assert "\n" not in words
            assert re.search(SAID[name], words), (asked, words)
    # Nobody was asked to convert pickled weights, and nobody's pull requests were opened.
    assert not [path for _, path in hub.requests if "discussions" in path or "convert" in path]


@pytest.mark.slow
def test_code_of_a_repository_is_never_run_unasked(tmp_path):
    evil = b"import pathlib, os; pathlib.Path(os.environ['HF_HOME'], 'ran').touch()\nclass C: pass\n"
    config = json.dumps({"model_type": "whatever", "auto_map": {"AutoConfig": "evil.C"}}).encode()
    with HubServer() as hub:
        for name in ("user/foreign", "user/foreign-2d"):
            hub.add_repo(name, {"config.json": config, "evil.py": evil})
        said = ask(hub.environment(tmp_path), ["user/foreign"])
    assert len(said) == 3 and not (tmp_path / "ran").exists()
    for words in said.values():
        assert words.startswith("ValueError: user/foreign") and "\n" not in words


@pytest.mark.slow
def test_a_download_that_is_cut_off_is_one_clear_error(tmp_path):
    save_checkpoint(tmp_path / "tiny")
    with HubServer() as hub:
        hub.add_folder("user/tiny", tmp_path / "tiny")
        hub.fail("GET", "model.safetensors", drop=True, times=20)
        (words,) = ask(hub.environment(tmp_path / "home"), ["user/tiny"], doors="from_pretrained").values()
    assert words == "CheckpointError: user/tiny: the connection to the Hub was cut off; run the same again"


@pytest.mark.slow
def test_without_a_network_the_name_is_not_blamed(tmp_path):
    with HubServer() as hub:
        environment = hub.environment(tmp_path)  # of a server that is gone when it is asked
    said = ask({**environment, "HF_HUB_OFFLINE": "1"}, ["user/good"])
    assert len(said) == 3
    said |= ask(
        environment, ["user/good"], doors="load_checkpoint"
    )  # the client tries again and again before it gives up
    for asked, words in said.items():
        assert "not in the cache, and the Hub cannot be reached (no network, or HF_HUB_OFFLINE=1)" in words, asked
        assert words.startswith("CheckpointError: user/good") and "\n" not in words


WHERE = """
import json, os, sys
from neuron_vit3d import NeuronViT3DForSegmentation
first, cache = sys.argv[1:]
ask = dict(num_slices=3, dtype="float32", attn_implementation="eager")
latest = NeuronViT3DForSegmentation.from_pretrained_2d("user/growing", cache_dir=cache, **ask)
earlier = NeuronViT3DForSegmentation.from_pretrained_2d("user/growing", cache_dir=cache, revision=first, **ask)
private = NeuronViT3DForSegmentation.from_pretrained_2d("user/secret", cache_dir=cache, token="reader", **ask)
print(json.dumps({
    "widths": [model.config.backbone_config.hidden_size for model in (latest, earlier, private)],
    "names": [model.config.name_or_path for model in (latest, earlier, private)],
    "attention": latest.encoder.backbone.config._attn_implementation,
    "cached": sorted(name for name in os.listdir(cache) if name.startswith("models")),
}))
"""


@pytest.mark.slow
def test_revision_token_and_cache_are_those_that_were_asked_for(tmp_path):
    with HubServer() as hub:
        hub.add_folder("user/growing", save_2d(tmp_path / "first"))
        hub.add_folder("user/secret", save_2d(tmp_path / "first"), private=True)
        first = hub.commits("user/growing")[-1].oid
        wider = save_2d(tmp_path / "wider", hidden_size=48)
        environment = hub.environment(tmp_path / "home")
        upload = [
            "-c",
            "import sys; from huggingface_hub import upload_folder; upload_folder(repo_id='user/growing', "
            "folder_path=sys.argv[1])",
        ]
        processes.run([*upload, wider], env=environment, check=True)
        environment = hub.environment(tmp_path / "home", token=None)
        done = processes.run(["-c", WHERE, first, tmp_path / "cache"], env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "widths": [48, 32, 32],
        "names": ["user/growing", "user/growing", "user/secret"],
        "attention": "eager",
        "cached": ["models--user--growing", "models--user--secret"],
    }


SHARDED = """
import sys
from neuron_vit3d import NeuronViT3DForSegmentation
print(sum(p.numel() for p in NeuronViT3DForSegmentation.from_pretrained("user/sharded").parameters()))
"""


@pytest.mark.slow
def test_sharded_weights_are_found_in_the_cache_when_there_is_no_network(tmp_path):
    tiny_model().save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    printed = []
    with HubServer() as hub:
        hub.add_folder("user/sharded", tmp_path / "sharded")
        environment = hub.environment(tmp_path / "home")
        for changes in ({}, {"HF_HUB_OFFLINE": "1"}):
            done = processes.run(["-c", SHARDED], env={**environment, **changes})
            assert done.returncode == 0, done.stderr[-2000:]
            printed.append(int(done.stdout))
    assert printed[0] == printed[1] > 0


# -- in a folder -----------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path):
    for load in (NeuronViT3DForSegmentation.from_pretrained, NeuronViT3DModel.from_pretrained_2d, load_checkpoint):
        with pytest.raises(CheckpointError, match=r"nowhere: no such folder here") as caught:
            load(tmp_path / "nowhere")
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_pickled_weights_are_refused_with_the_line_that_converts_them(tmp_path):
    folder, folder_2d = with_pickle(save_checkpoint(tmp_path / "mine")), with_pickle(save_2d(tmp_path / "theirs"))
    for load in (NeuronViT3DForSegmentation.from_pretrained, load_checkpoint):
        with pytest.raises(CheckpointError, match=r"mine: has its weights in pytorch_model\.bin only") as caught:
            load(folder)
    assert conversion_line(folder) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"theirs: has its weights in pytorch_model\.bin only") as caught:
        NeuronViT3DForSegmentation.from_pretrained_2d(folder_2d)
    # The line does what it says: typed as it stands, the checkpoint loads.
    line = str(caught.value).split("convert them: ")[1]
    done = subprocess.run(
        line.replace("python -c", f"{sys.executable} -c", 1), shell=True, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    model = NeuronViT3DForSegmentation.from_pretrained_2d(folder_2d, num_slices=1, num_channels=3).eval()
    picture = tiny_block(channels=3, slices=1)
    with torch.no_grad():
        expected = model_2d()(picture[:, :, 0]).last_hidden_state
        torch.testing.assert_close(model.base_model(picture).last_hidden_state, expected, atol=1e-5, rtol=0)


def test_pickles_are_never_opened_not_even_on_request(tmp_path):
    with pytest.raises(ValueError, match="use_safetensors=False is not supported"):
        NeuronViT3DForSegmentation.from_pretrained(with_pickle(save_checkpoint(tmp_path)), use_safetensors=False)


def test_the_line_for_a_name_on_the_hub_downloads_it_first():
    line = conversion_line("user/name")
    assert line.startswith("hf download user/name --local-dir name && python -c ")


@pytest.mark.parametrize("load", [NeuronViT3DForSegmentation.from_pretrained, load_checkpoint])
def test_a_field_that_does_not_exist_is_named_and_what_was_saved_loads(load, tmp_path, caplog):
    edit_json(save_checkpoint(tmp_path) / "config.json", num_slice=7)
    load(tmp_path)
    (said,) = [message for message in caplog.messages if "num_slice" in message]
    assert said.endswith("NeuronViT3DConfig has no field 'num_slice' (value 7); did you mean num_slices?")


@pytest.mark.parametrize("load", [NeuronViT3DForSegmentation.from_pretrained, NeuronViT3DModel.from_pretrained])
def test_a_depth_that_contradicts_the_weights(load, tmp_path):
    edit_json(save_checkpoint(tmp_path) / "config.json", num_slices=5)
    message = r"num_slices = 5 of num_channels = 1, so 5 planes a block; its weights are for 3"
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ") and "\n" not in str(caught.value)


def test_a_depth_that_contradicts_the_weights_is_loaded_only_on_request(tmp_path):
    edit_json(save_checkpoint(tmp_path) / "config.json", num_slices=5)
    model, info = NeuronViT3DForSegmentation.from_pretrained(
        tmp_path, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert model.config.num_slices == 5 and len(info["mismatched_keys"]) == 2  # patch embedding and stem


def test_a_processor_of_another_model(tmp_path):
    save_checkpoint(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5, 0.5, 0.5], "size": {"height": 224}}
        )
    )
    message = "expected the values of a NeuronViT3DImageProcessor, found those of a ViTImageProcessor"
    for load in (NeuronViT3DImageProcessor.from_pretrained, load_checkpoint):
        with pytest.raises(ValueError, match=message):
            load(tmp_path)
    with pytest.raises(ValueError, match="the image processor has num_slices = 5, the model 3"):
        NeuronViT3DImageProcessor().fit_to(tiny_model().config)


def test_damaged_weights(tmp_path):
    path = save_checkpoint(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    for load in (NeuronViT3DForSegmentation.from_pretrained, load_checkpoint):
        with pytest.raises(
            CheckpointError, match="expected weights in a safetensors file, found a damaged one"
        ) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_weights_that_lie_about_their_sizes_take_no_memory(tmp_path):
    path = save_checkpoint(tmp_path) / "model.safetensors"
    header = json.dumps({"decoder.classifier.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_slices": "3"}, "num_slices"),
        ({"num_labels": 1}, "num_labels must be at least 2"),
        ({"backbone_config": {"model_type": "nope"}}, "cannot inflate a model of type 'nope'"),
        ({"model_type": "vit"}, "expected a neuron_vit3d checkpoint, found a model of type 'vit'"),
    ],
)
def test_a_bad_config_is_one_line_that_names_the_checkpoint(changes, message, tmp_path):
    saved = save_checkpoint(tmp_path) / "config.json"
    saved.write_text(json.dumps({k: v for k, v in json.loads(saved.read_text()).items() if k != "id2label"} | changes))
    for load in (NeuronViT3DForSegmentation.from_pretrained, load_checkpoint):
        with pytest.raises(ValueError, match=message) as caught:
            load(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}: ") and "\n" not in str(caught.value)


def test_a_2d_model_is_told_how_it_becomes_a_3d_one(tmp_path):
    with pytest.raises(
        ValueError, match=r"found a model of type 'vit' \(a 2D vision transformer becomes one by from_pretr"
    ):
        NeuronViT3DForSegmentation.from_pretrained(save_2d(tmp_path))


def test_a_deeper_transformer_than_the_weights_is_refused(tmp_path):
    saved = json.loads((save_checkpoint(tmp_path) / "config.json").read_text())
    edit_json(tmp_path / "config.json", backbone_config={**saved["backbone_config"], "num_hidden_layers": 6})
    for load in (NeuronViT3DForSegmentation.from_pretrained, NeuronViT3DModel.from_pretrained, load_checkpoint):
        with pytest.raises(
            ValueError, match=r"its weights do not fit its config\.json: \d+ missing, first .*layers\.4"
        ):
            load(tmp_path)


def test_a_damaged_preprocessor_config_of_the_2d_model_is_named(tmp_path):
    (save_2d(tmp_path) / "preprocessor_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"expected JSON in its preprocessor_config\.json"):
        NeuronViT3DModel.from_pretrained_2d(tmp_path)


def test_a_missing_image_and_a_missing_model_are_told_apart(tmp_path):
    with pytest.raises(OSError, match=r"nowhere\.tif"):
        segment(tmp_path / "nowhere.tif")


# -- what the 2D model's pictures looked like -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (None, ([0.5], [0.5])),
        ({}, ([0.5], [0.5])),
        (
            {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
            ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ),
        ({"do_normalize": False, "image_mean": [0.3], "image_std": [0.3]}, ([0.0], [1.0])),
    ],
)  # fmt: skip
def test_normalisation_is_read_from_the_2d_checkpoint(values, expected, tmp_path):
    save_2d(tmp_path)
    if values is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    assert picture_statistics(tmp_path) == expected
    config = NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path, num_slices=3).config
    assert (list(config.image_mean), list(config.image_std)) == expected


def test_first_layer_sees_what_it_was_trained_on(tmp_path):
    """A grey volume, normalised by the processor and seen by the summed kernels, against the picture of the 2D
    model."""
    save_2d(tmp_path)
    mean, std = [0.485, 0.456, 0.406], [0.25, 0.25, 0.25]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    for channels in (1, 3):
        model = NeuronViT3DModel.from_pretrained_2d(tmp_path, num_slices=3, num_channels=channels)
        processor = NeuronViT3DImageProcessor.for_model(model.config)
        volume = torch.rand(channels, 3, 32, 32, generator=torch.Generator().manual_seed(0)).numpy()
        standardised = torch.from_numpy(processor.standardise(volume))[None]
        picture = torch.from_numpy(volume)[None, :, 1].expand(-1, 3, -1, -1)
        if channels == 3:  # each colour keeps its own
            picture = (picture - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        else:
            picture = (picture - torch.tensor(mean).mean()) / torch.tensor(std).mean()
        with torch.no_grad():
            torch.testing.assert_close(
                model.eval()(standardised).last_hidden_state, model_2d()(picture).last_hidden_state, atol=1e-4, rtol=0
            )


def test_what_happened_to_the_weights_is_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    save_2d(tmp_path)
    model, done = NeuronViT3DForSegmentation.from_pretrained_2d(tmp_path, num_slices=3, output_loading_info=True)
    names = {name.removeprefix("encoder.backbone.") for name in model.state_dict()}
    assert names == {*done["loaded"], *done["inflated"], *done["initialised"]}
    assert done["inflated"] == ["embeddings.patch_embeddings.projection.weight"]
    assert done["left_out"] == ["pooler.dense.bias", "pooler.dense.weight"]
    assert done["initialised"] and all(name.startswith("decoder.") for name in done["initialised"])
    (said,) = [record.message for record in caplog.records if str(tmp_path) in record.message]
    assert f"loaded {len(done['loaded'])} tensors as they are" in said
    assert 'inflated the patch embedding to 3 slices ("center"), left out 2' in said
    assert f"newly initialised {len(done['initialised'])} of the decoder: train the model" in said
    _, done = NeuronViT3DModel.from_pretrained_2d(tmp_path, num_slices=3, output_loading_info=True)
    assert done["initialised"] == []
