"""transformers' own tests of models, which are in its source archive and not in its wheel.

`make test` fetches them into the environment's folder `transformers-tests`. A checkout of transformers may be named by
TRANSFORMERS_CHECKOUT instead; it needs the package `parameterized`.
"""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest


FETCHED = Path(sys.prefix) / "transformers-tests"
PACKAGE = "transformers_tests_of_models"  # what `tests` of transformers is called here
# Mixins for export and generation, which the archive lacks: empty ones stand for them.
_LEFT_OUT = {"exporters.test_export": "ExportTesterMixin", "generation.test_utils": "GenerationTesterMixin"}


def model_tester_mixin() -> type:
    """Returns transformers' ModelTesterMixin; the calling module's tests are skipped where it is not there."""
    source = Path(os.environ.get("TRANSFORMERS_CHECKOUT") or FETCHED)
    if not (source / "tests" / "test_modeling_common.py").is_file():
        pytest.skip(f"no tests of transformers in {source.name} (make transformers-tests)", allow_module_level=True)
    if PACKAGE not in sys.modules:
        _add_package(PACKAGE, source / "tests")
        for name, mixin in _LEFT_OUT.items():
            _add_package(f"{PACKAGE}.{name.split('.')[0]}")
            setattr(_add_package(f"{PACKAGE}.{name}"), mixin, type(mixin, (), {}))
    before = list(sys.path)
    sys.path.append(str(source / "packages"))
    try:
        return importlib.import_module(f"{PACKAGE}.test_modeling_common").ModelTesterMixin
    except ImportError as error:
        pytest.skip(f"transformers' tests cannot be imported: {error}", allow_module_level=True)
    finally:
        sys.path[:] = before


def _add_package(name: str, folder: Path | None = None) -> ModuleType:
    package = sys.modules[name] = ModuleType(name)
    package.__path__ = [] if folder is None else [str(folder)]
    return package
