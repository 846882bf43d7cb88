"""Fixtures shared by the tests. Hubs are switched off before any Hugging Face library is imported: their constants freeze."""

import logging
import os
import threading
import warnings
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from neuron_vit3d.model import image_processing_neuron_vit3d


REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real neurons (`data/`) and real 2D weights (`weights/`); the test is skipped where it is absent."""
    folder = Path(os.environ.get("NEURON_VIT3D_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data is not beside this checkout ({folder.name}/data)")
    return folder


@pytest.fixture
def tiles_as_asked(monkeypatch):
    """Tiles have the size that is asked for, whatever the plane's: two volumes have the same tiles then."""
    monkeypatch.setattr(image_processing_neuron_vit3d, "tile_side", lambda length, tile, *_: tile)


@pytest.fixture(autouse=True)
def logging_is_free():
    """A test that leaves the lock of `logging` held (an error or a signal in the wrong moment, as of a worker that is killed) would
    have a later one wait for ever, in a thread of zarr's. It is told of, and the lock is replaced."""
    yield
    found = []
    thread = threading.Thread(target=_try_the_lock, args=(found,))
    thread.start()
    thread.join()
    if not found:
        warnings.warn(f"this test left the lock of logging held: {logging._lock!r}", stacklevel=1)
        logging._lock = threading.RLock()


def _try_the_lock(found: list) -> None:
    if logging._lock.acquire(timeout=5):
        logging._lock.release()
        found.append(True)
