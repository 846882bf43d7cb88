"""Makes the package known to transformers' Auto classes and pipelines, without importing them.

What there is to register needs half of transformers, which takes longer to import than torch, and a program that
traces a mask or reads an image needs none of it. So each registration waits until the module it is for has been
imported by whoever needs it, and until nothing of transformers is half imported: `import neuron_vit3d` followed by
`from transformers import AutoModel` finds everything in place.
"""

import contextlib
import importlib.abc
import importlib.util
import sys
import threading
from collections import UserDict
from collections.abc import Mapping
from types import ModuleType


class _LateConfigs(UserDict):
    """Configurations by model type, of which the package's own is imported when somebody asks for it.

    A program that asks for `AutoConfig` pays for our configuration, and the libraries it needs, only if it meets one.
    """

    MODEL_TYPE = "neuron_vit3d"  # of NeuronViT3DConfig, which is not imported to ask

    def __init__(self, others: Mapping):
        super().__init__(others)
        self.data.setdefault(self.MODEL_TYPE, None)

    def __getitem__(self, model_type: str):
        if model_type == self.MODEL_TYPE and self.data[model_type] is None:
            from .model.configuration_neuron_vit3d import NeuronViT3DConfig

            self.data[model_type] = NeuronViT3DConfig
        return super().__getitem__(model_type)


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig

    if isinstance(getattr(CONFIG_MAPPING, "_extra_content", None), dict):
        CONFIG_MAPPING._extra_content = _LateConfigs(CONFIG_MAPPING._extra_content)
        return
    # Another release of transformers, which keeps them elsewhere: the public way, which takes the class itself.
    from .model.configuration_neuron_vit3d import NeuronViT3DConfig

    AutoConfig.register(NeuronViT3DConfig.model_type, NeuronViT3DConfig)


def _register_models() -> None:
    from transformers import AutoModel, AutoModelForSemanticSegmentation

    from .model.modeling_neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation, NeuronViT3DModel

    AutoModel.register(NeuronViT3DConfig, NeuronViT3DModel)
    AutoModelForSemanticSegmentation.register(NeuronViT3DConfig, NeuronViT3DForSegmentation)


def _register_image_processor() -> None:
    from transformers import AutoImageProcessor

    from .model.configuration_neuron_vit3d import NeuronViT3DConfig
    from .model.image_processing_neuron_vit3d import NeuronViT3DImageProcessor

    AutoImageProcessor.register(NeuronViT3DConfig, image_processor_classes={"pil": NeuronViT3DImageProcessor})


def _register_pipeline() -> None:
    from transformers import AutoModelForSemanticSegmentation
    from transformers.pipelines import PIPELINE_REGISTRY

    from .model.pipeline_neuron_vit3d import NeuronSegmentationPipeline

    PIPELINE_REGISTRY.register_pipeline(
        "neuron-segmentation",
        pipeline_class=NeuronSegmentationPipeline,
        pt_model=AutoModelForSemanticSegmentation,
        type="image",
    )


_WAITING = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_models,
    "transformers.models.auto.image_processing_auto": _register_image_processor,
    "transformers.pipelines": _register_pipeline,
}


def register() -> None:
    """Registers what can be registered now, and the rest as soon as transformers' modules are imported."""
    finder = _Finder()
    finder.register_what_is_due()
    if _WAITING:
        sys.meta_path.insert(0, finder)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules as Python does, and registers what is due when the outermost import under way is over."""

    FOLLOWED = ("transformers", __name__.split(".")[0])  # nothing of these may be half imported while we register

    def __init__(self):
        self.thread = threading.local()  # depth: imports under way; looking: whether we are asking the other finders

    def find_spec(self, name: str, path, target: ModuleType | None = None):
        if name.split(".")[0] not in self.FOLLOWED or getattr(self.thread, "looking", False):
            return None
        self.thread.looking = True
        try:
            # The others are asked one by one: importlib's own find_spec imports the parent, under the lock that is
            # held here, and two threads would wait for one another.
            others = (finder.find_spec(name, path, target) for finder in list(sys.meta_path) if finder is not self)
            spec = next((found for found in others if found is not None), None)
        finally:
            self.thread.looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _FollowedLoader(spec.loader, self)
        return spec

    @contextlib.contextmanager
    def following(self):
        """Around an import, or around what causes some."""
        self.thread.depth = getattr(self.thread, "depth", 0) + 1
        try:
            yield
        finally:
            self.thread.depth -= 1

    def register_what_is_due(self) -> None:
        if getattr(self.thread, "depth", 0):
            return
        while due := [name for name in _WAITING if name in sys.modules]:
            step = _WAITING.pop(due[0], None)
            if step is not None:
                with self.following():
                    step()
        if not _WAITING and self in sys.meta_path:
            sys.meta_path.remove(self)


class _FollowedLoader(importlib.abc.Loader):
    """A module's own loader, followed by the finder."""

    def __init__(self, loader: importlib.abc.Loader, finder: _Finder):
        self.loader, self.finder = loader, finder

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module is to look as it does without us: inspection and reloading ask for its loader.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        with self.finder.following():
            self.loader.exec_module(module)
        self.finder.register_what_is_due()

    def __getattr__(self, name: str):
        return getattr(self.loader, name)
