"""The napari plugin as napari finds it where the package is installed, also where it is only on the path."""

from collections.abc import Iterator
from contextlib import contextmanager

from support.places import REPOSITORY


MANIFEST = REPOSITORY / "src" / "neuron_vit3d" / "apps" / "napari" / "napari.yaml"


@contextmanager
def registered() -> Iterator:
    """Yields npe2's manager, which has the manifest."""
    from npe2 import DynamicPlugin, PluginManager, PluginManifest

    manager = PluginManager.instance()
    manager.discover()
    if "neuron_vit3d" in manager:
        yield manager
    else:
        with DynamicPlugin("neuron_vit3d", manager, PluginManifest.from_file(MANIFEST)):
            yield manager
