"""A published checkpoint loads by name where the package is not installed, and computes what its publisher computed.

Everything is real but for the network: the publisher and the readers are processes that talk HTTP to a Hub on the
loopback.
"""

import json
import os
import site
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d import synthetic_neuron
from neuron_vit3d.model.configuration_neuron_vit3d import AUTO_MAP
from support import processes
from support.hub_server import HubServer
from support.places import REPOSITORY
from support.program import save_checkpoint


FACTS = str(REPOSITORY / "model_cards" / "default.yaml")

PUBLISH = """
import sys
import numpy as np
from transformers import pipeline
from neuron_vit3d import publish
checkpoint, facts, volume, scores = sys.argv[1:]
publish(checkpoint, "user/tiny", facts=facts)
np.save(scores, pipeline("neuron-segmentation", model=checkpoint)(np.load(volume), trace=False)["scores"])
"""

# What somebody does who has only torch, transformers and numpy.
READ = """
import json, sys
import numpy as np
from transformers import (
    AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation, pipeline
)
name, volume, scores, again = sys.argv[1:]
trust = {"trust_remote_code": True}
config = AutoConfig.from_pretrained(name, **trust)
encoder = AutoModel.from_pretrained(name, **trust)
model = AutoModelForSemanticSegmentation.from_pretrained(name, **trust)
processor = AutoImageProcessor.from_pretrained(name, **trust)
pipe = pipeline("neuron-segmentation", model=name, **trust)
array = np.load(volume)
result = pipe(array)
blocks = processor(array)
logits = model(blocks["pixel_values"]).logits
by_hand = processor.post_process_segmentation(logits.detach(), blocks["volume_shape"])
np.save(scores, result["scores"])
try:
    pipe("volume.tif")
except ValueError as error:
    refused = str(error)
one_block = blocks["pixel_values"][:1]
model.save_pretrained(again)
processor.save_pretrained(again)
print(json.dumps({
    "types": [
        f"{type(x).__module__.split('.')[0]} {type(x).__name__}" for x in (config, encoder, model, processor, pipe)
    ],
    "same_encoder": bool((encoder(one_block)[0] == model.base_model(one_block)[0]).all()),
    "keys": sorted(result),
    "by_hand": float(np.abs(by_hand - result["scores"]).max()),
    "refused": refused,
    "foreign": [name for name in ("neuron_vit3d", "tifffile", "skimage", "datasets", "typer") if name in sys.modules],
}))
"""


def read_without_the_package(environment: dict, folder: Path, *arguments) -> dict:
    """Runs READ in a Python that finds site-packages but nothing that is installed in place, as this package is
    here."""
    packages = os.pathsep.join(site.getsitepackages())
    # Without `site` (-S) the .pth files that lead to the sources are not read.
    command = [sys.executable, "-S", "-c", READ, *map(str, arguments)]
    probe = [sys.executable, "-S", "-c", "import neuron_vit3d"]
    environment = {**environment, "PYTHONPATH": packages, "TRANSFORMERS_VERBOSITY": "error"}
    assert subprocess.run(probe, env=environment, cwd=folder, capture_output=True, check=False).returncode != 0
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_published_then_loaded_by_name_without_the_package(tmp_path):
    np.save(tmp_path / "volume.npy", synthetic_neuron((5, 40, 48), seed=6, quality="clean").volume.array)
    checkpoint = save_checkpoint(tmp_path / "checkpoint")
    volume, published, read = (str(tmp_path / name) for name in ("volume.npy", "published.npy", "read.npy"))
    with HubServer() as hub:
        publisher = hub.environment(tmp_path / "publisher")
        done = processes.run(["-c", PUBLISH, checkpoint, FACTS, volume, published], env=publisher)
        assert done.returncode == 0, done.stderr[-3000:]

        reader = hub.environment(tmp_path / "reader", token=None)  # its cache is empty
        online = read_without_the_package(reader, tmp_path, "user/tiny", volume, read, tmp_path / "again")
    assert online["types"] == [
        "transformers_modules NeuronViT3DConfig",
        "transformers_modules NeuronViT3DModel",
        "transformers_modules NeuronViT3DForSegmentation",
        "transformers_modules NeuronViT3DImageProcessor",
        "transformers_modules NeuronSegmentationPipeline",
    ]
    assert online["foreign"] == [] and online["same_encoder"]
    assert online["keys"] == ["mask", "scores"]  # a tree where the package is
    assert online["by_hand"] < 1e-6
    assert (
        "without the package neuron_vit3d only .npy files can be read: pip install neuron_vit3d" in online["refused"]
    )
    assert np.array_equal(np.load(read), np.load(published))  # bit for bit

    # The server is gone; what is in the cache is enough.
    (tmp_path / "read.npy").unlink()
    offline = read_without_the_package(
        {**reader, "HF_HUB_OFFLINE": "1"}, tmp_path, "user/tiny", volume, read, tmp_path / "offline"
    )
    assert offline == online
    assert np.array_equal(np.load(read), np.load(published))

    # What was loaded and saved again is as complete as what was published, and says nothing of where it came from.
    saved = {path.name for path in (tmp_path / "again").iterdir()}
    assert saved == {path.name for path in checkpoint.iterdir()}
    assert json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"] == AUTO_MAP
    third = read_without_the_package(
        {**reader, "HF_HUB_OFFLINE": "1"}, tmp_path, tmp_path / "again", volume, read, tmp_path / "third"
    )
    assert third == online
    assert np.array_equal(np.load(read), np.load(published))
