"""Fixtures shared by the tests.

Hubs are switched off before any Hugging Face library is imported: their constants freeze.
"""

import importlib.util
import os
import sys
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest


SUPPORT = Path(__file__).with_name("support")
# `support` is imported by this name, and no folder of tests is on sys.path: no test file can hide another module.
pytest.register_assert_rewrite("support")
_spec = importlib.util.spec_from_file_location(
    "support", SUPPORT / "__init__.py", submodule_search_locations=[str(SUPPORT)]
)
sys.modules["support"] = importlib.util.module_from_spec(_spec)

from support.places import REPOSITORY  # noqa: E402


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real neurons (`data/`) and real 2D weights (`weights/`); the test is skipped where it is
    absent."""
    folder = Path(os.environ.get("NEURON_VIT3D_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data is not beside this checkout ({folder.name}/data)")
    return folder


@pytest.fixture
def tiles_as_asked(monkeypatch):
    """Tiles have the size that is asked for, whatever the plane's: two volumes have the same tiles then."""
    from neuron_vit3d.model import image_processing_neuron_vit3d

    monkeypatch.setattr(image_processing_neuron_vit3d, "tile_side", lambda length, tile, *_: tile)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is not asked for
def pytest_collection_modifyitems(items):
    """Tests whose `client` is a process that talks to a Hub are slow: it imports the libraries anew."""
    for item in items:
        if "client" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
