"""The Auto classes know the package in whatever order things are imported, and importing it costs next to nothing."""

import os
import subprocess
import sys

import pytest

from support import processes


LOADS = """
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation
from neuron_vit3d.inference import DEFAULT_CHECKPOINT as folder
print(type(AutoConfig.from_pretrained(folder)).__module__)
both = AutoModel.from_pretrained(folder), AutoModelForSemanticSegmentation.from_pretrained(folder)
print(*(type(model).__name__ for model in both))
print(type(AutoImageProcessor.from_pretrained(folder)).__name__)
from transformers.pipelines import PIPELINE_REGISTRY
print("neuron-segmentation" in PIPELINE_REGISTRY.get_supported_tasks())
"""

FOUND = [
    "neuron_vit3d.model.configuration_neuron_vit3d",
    "NeuronViT3DModel NeuronViT3DForSegmentation",
    "NeuronViT3DImageProcessor",
    "True",
]


def run(code: str) -> list[str]:
    # Another setting than the tests have: transformers is imported anew.
    done = processes.run(["-c", code], env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import neuron_vit3d",
        "from transformers import AutoModel, AutoImageProcessor, pipeline; import neuron_vit3d",
        "import neuron_vit3d; from transformers import Trainer, pipeline",
        "import neuron_vit3d; import transformers.models.vit.modeling_vit",
        "from neuron_vit3d import NeuronViT3DForSegmentation",
    ],
)
def test_everything_is_found_whatever_was_imported_first(first):
    assert run(first + LOADS) == FOUND


def test_importing_the_package_imports_neither_torch_nor_transformers():
    code = (
        "import sys, neuron_vit3d; print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_every_public_name_is_there():
    import neuron_vit3d

    for name in neuron_vit3d.__all__:
        assert getattr(neuron_vit3d, name).__name__ == name, name
    assert set(neuron_vit3d.__all__) <= set(dir(neuron_vit3d))
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = neuron_vit3d.nothing


@pytest.mark.slow
def test_threads_may_ask_for_the_first_time_at_once():
    code = """
import threading, neuron_vit3d
found = []
def ask(name):
    found.append(getattr(neuron_vit3d, name).__name__)
names = ["NeuronViT3DForSegmentation", "segment", "NeuronViT3DImageProcessor", "publish", "NeuronViT3DConfig"]
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(found) == sorted(names))
"""
    assert run(code) == ["True"]


@pytest.mark.slow
def test_one_thread_may_import_the_package_and_another_transformers():
    # Each waited for a lock of the other's while the finder asked importlib itself.
    code = """
import threading, neuron_vit3d
found = []
def ours(): found.append(neuron_vit3d.NeuronViT3DForSegmentation.__name__)
def theirs():
    from transformers import pipeline
    found.append(pipeline.__name__)
threads = [threading.Thread(target=ask, daemon=True) for ask in (ours, theirs)]
for thread in threads: thread.start()
for thread in threads: thread.join(60)
print([thread.is_alive() for thread in threads])
"""
    assert run(code)[-1] == "[False, False]"


@pytest.mark.slow
def test_asking_for_the_configurations_loads_none_of_ours_and_modules_look_as_without_the_package():
    code = """
import sys, neuron_vit3d
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
print([name for name in sys.modules if name.startswith("neuron_vit3d.model")], "neuron_vit3d" in CONFIG_MAPPING)
print([name for name in ("transformers.modeling_utils", "transformers.pipelines") if name in sys.modules])
print("neuron_vit3d" in list(CONFIG_MAPPING.keys()), AutoConfig.for_model("neuron_vit3d").model_type)
from neuron_vit3d import NeuronViT3DConfig
print(CONFIG_MAPPING["neuron_vit3d"] is NeuronViT3DConfig, NeuronViT3DConfig in CONFIG_MAPPING._extra_content.values())
import pickle
print(pickle.loads(pickle.dumps(CONFIG_MAPPING))["neuron_vit3d"] is NeuronViT3DConfig)
import transformers.models.auto.configuration_auto as module
spec = module.__spec__
print(type(module.__loader__).__name__, spec.loader is module.__loader__, spec.origin == module.__file__)
from transformers import AutoImageProcessor, pipeline
print([type(finder).__name__ for finder in sys.meta_path if "neuron_vit3d" in type(finder).__module__])
"""
    first = ["[] True", "[]", "True neuron_vit3d", "True True", "True"]
    assert run(code) == [*first, "SourceFileLoader True True", "[]"]


@pytest.mark.slow
def test_where_transformers_keeps_configurations_elsewhere_ours_is_registered_at_once():
    code = """
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig
from collections import ChainMap
CONFIG_MAPPING._extra_content = ChainMap()
import neuron_vit3d
print(AutoConfig.for_model("neuron_vit3d").model_type, type(CONFIG_MAPPING._extra_content).__name__)
"""
    assert run(code) == ["neuron_vit3d ChainMap"]
