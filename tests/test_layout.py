"""The house stays in order: who imports whom, what travels to the Hub, how files are named, how long they are."""

import ast
import importlib
import sys
import tomllib
from pathlib import Path

import pytest

from neuron_vit3d.volumes.formats.registry import FORMATS
from support.places import REPOSITORY


PACKAGE = REPOSITORY / "src" / "neuron_vit3d"
FILES = sorted(PACKAGE.rglob("*.py"))
# transformers copies the modules that import each other, and so not `__init__.py`
MODEL_FILES = sorted(path for path in (PACKAGE / "model").glob("*.py") if path.stem != "__init__")
STUBS = sorted(PACKAGE.rglob("*.pyi"))

# folder -> the others it may import; files at the top of the package may import all but the doors
MAY_IMPORT = {
    "volumes": set(),
    "morphology": set(),
    "tracing": {"morphology", "volumes"},
    "model": set(),
    "data": {"volumes", "morphology"},
    "inference": {"volumes", "model"},
    "evaluation": {"morphology", "tracing", "volumes"},
    "training": {"data", "model", "inference", "evaluation", "volumes", "morphology", "tracing"},
    "teaching": {"training", "data", "model", "inference", "evaluation", "volumes", "morphology", "tracing"},
    "hub": {"model"},
}
ROOMS = set(MAY_IMPORT)
# `neuron-vit3d app` opens the other door.
MAY_IMPORT |= {"cli": {*ROOMS, "__version__", "apps"}, "apps": ROOMS}
# the ground floor, which everybody but the model may know and which knows nobody
GROUND = {"files", "option_fields", "progress"}
DOORS = {"cli", "apps"}
TRAVELS_WITH_THE_MODEL = {"torch", "numpy", "transformers", "huggingface_hub"}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports anywhere; those of the package absolute, `neuron_vit3d.x.y`."""
    here = ["neuron_vit3d", *path.relative_to(PACKAGE).with_suffix("").parts]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            # `from .. import volumes` names modules after `import`, as does `from neuron_vit3d import cli`.
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "neuron_vit3d" else {module}
    return names


def parts_of_the_package(path: Path) -> set[str]:
    """What a file imports of the package, by the first name below it: a folder or a file at the top."""
    own = [name.split(".") for name in imported(path) if name.split(".")[0] == "neuron_vit3d"]
    return {parts[1] for parts in own if len(parts) > 1}


def test_every_folder_has_its_rule():
    assert len(FILES) > 20
    assert {path.relative_to(PACKAGE).parts[0] for path in FILES if path.parent != PACKAGE} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_who_knows_whom(path):
    folder = path.relative_to(PACKAGE).parts[0]
    known = parts_of_the_package(path) - {folder}
    if path.parent == PACKAGE and path.stem in GROUND:
        assert not known
    elif folder in MAY_IMPORT:
        known -= GROUND if folder != "model" else set()
        assert known <= MAY_IMPORT[folder], f"{name_of(path)} imports {sorted(known - MAY_IMPORT[folder])}"
    else:
        doors = set() if path.stem == "__main__" else DOORS - {path.stem}
        assert not known & doors, f"{name_of(path)} imports a door"


@pytest.mark.parametrize("path", MODEL_FILES, ids=name_of)
def test_what_travels_to_the_hub_stands_alone(path):
    """transformers copies the model's files flat, by `from .x import y`; see its `dynamic_module_utils`."""
    tree = ast.parse(path.read_text())
    allowed = TRAVELS_WITH_THE_MODEL | set(sys.stdlib_module_names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name.split(".")[0] in allowed, f"line {node.lineno}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.split(".")[0] in allowed, f"line {node.lineno}: from {node.module}"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1 and node.module and "." not in node.module, f"line {node.lineno}: not flat"
            assert (path.parent / f"{node.module}.py").exists(), f"line {node.lineno}: {node.module} is not beside it"
    # transformers finds imports by regular expression, in docstrings as well.
    assert not any(
        line.lstrip().startswith(("from .", "import .")) and line.lstrip() != line
        for line in (ast.get_docstring(tree, clean=False) or "").splitlines()
    )
    assert path.parent == PACKAGE / "model"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_import_of_a_module_by_its_package_in_the_model(path):
    """`from . import x` hides from the copy to the Hub and from readers; elsewhere it is used within a folder only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.module:
            assert node.level == 1, f"line {node.lineno}: from .. import"
            assert path.parent.name != "model", f"line {node.lineno}: from . import"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short_and_named_after_what_they_hold(path):
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "misc", "tools"}
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem == "__init__" or ast.get_docstring(ast.parse(path.read_text())), "begins without a docstring"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_alone_knows_how_a_file_is_written_whole(path):
    """Temporary names, what is forced onto the disk, renames and locks have one home; the model travels without it."""
    words = ("os.replace(", "os.fsync(", "os.umask(", "mkstemp(", "NamedTemporaryFile(", "flock(")
    found = [word for word in words if word in path.read_text()]
    assert not found or name_of(path) == "files.py", f"{name_of(path)} has {found}: use files.py"


@pytest.mark.parametrize("path", STUBS, ids=name_of)
def test_stubs_name_what_is_there(path):
    """A folder's stub is the one list of its names: type checkers and the folder itself read it, each name `x as
    x`."""
    package = importlib.import_module(module_of(path))
    named = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert all(alias.asname == alias.name for node in named for alias in node.names)
    homes = {alias.name: f"{package.__name__}.{node.module}" for node in named for alias in node.names}
    assert sorted(package.__all__) == sorted(homes) == sorted(dir(package))
    for name, home in homes.items():
        assert getattr(package, name) is getattr(importlib.import_module(home), name)


def test_stubs_are_in_the_wheel():
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["neuron_vit3d"]
    assert len(STUBS) > 5
    assert set(STUBS) <= {path for pattern in patterns for path in PACKAGE.glob(pattern)}


def module_of(path: Path) -> str:
    """The dotted name of a file's module."""
    parts = ("neuron_vit3d", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """The package's modules that a file imports at once or inside functions; not what only type checkers import."""
    here = ["neuron_vit3d", *path.relative_to(PACKAGE).with_suffix("").parts]
    names, todo = set(), [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            both = {alias.name: f"{module}.{alias.name}" for alias in node.names}
            names |= {whole if whole in modules else module for whole in both.values()}
    if path.parent.name == "formats" and path.stem == "registry":  # it imports them by their names
        names |= {f"neuron_vit3d.volumes.formats.{name}" for name in FORMATS}
    return names & modules - {module_of(path)}


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or through others (Tarjan's components)."""
    number, lowest, stack, found = {}, {}, [], []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == number[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(imports):
        if module not in number:
            visit(module)
    return found


def test_no_modules_import_each_other_in_a_circle():
    modules = {module_of(path) for path in FILES}
    assert circles({module_of(path): imported_modules(path, modules) for path in FILES}) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "e"}, "e": {"d"}}) == [["b", "c"], ["d", "e"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_understood(tmp_path, monkeypatch):
    """The lint itself: relative, absolute and hidden imports are all seen."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    path = tmp_path / "morphology" / "x.py"
    path.parent.mkdir()
    path.write_text(
        "import numpy as np\nfrom ..volumes import Volume\nfrom .swc import Tree\nfrom neuron_vit3d import cli\n"
        "def f():\n    from .. import data\n    import neuron_vit3d.hub.publish\n"
    )
    assert parts_of_the_package(path) == {"volumes", "morphology", "cli", "data", "hub"}
    modules = {"neuron_vit3d.morphology.swc", "neuron_vit3d.volumes", "neuron_vit3d.data", "neuron_vit3d.model"}
    path.write_text(path.read_text() + "if TYPE_CHECKING:\n    from .. import model\n")
    assert imported_modules(path, modules) == modules - {"neuron_vit3d.model"}
    package = path.with_name("__init__.py")
    package.write_text("from .swc import Tree\nfrom ..model.blocks import cut\n")
    assert parts_of_the_package(package) == {"morphology", "model"}


# It takes what transformers' own decides.
MANY_PARAMETERS = {"from_pretrained_2d"}


def functions(path: Path) -> list[tuple[str, ast.FunctionDef]]:
    """The public functions of a file, and the public methods and constructors that its classes define."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.append((node.name, node))
        elif isinstance(node, ast.ClassDef):
            found += [(f"{node.name}.{each.name}", each) for each in node.body if isinstance(each, ast.FunctionDef)]
    return [(name, node) for name, node in found if not node.name.startswith("_") or node.name == "__init__"]


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name != "cli"], ids=name_of)
def test_functions_take_at_most_12_parameters(path):
    for name, node in functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([each for each in arguments if each.arg not in ("self", "cls")])
        if name not in MANY_PARAMETERS and node.name not in MANY_PARAMETERS:
            assert count <= 12, f"line {node.lineno}: {name} takes {count} parameters; a record can hold them"


TESTS = sorted(path for path in (REPOSITORY / "tests").rglob("test_*.py"))
# What has tests beside the package.
BESIDE = ("scripts", "benchmarks", "experiments")


def folders_of(module: str) -> set[str]:
    """The folders that hold a module of this name, as tests/ mirrors them; the model's end in `_neuron_vit3d`."""
    inside = {path.parent.relative_to(PACKAGE).as_posix() for path in FILES}
    names = (f"{module}.py", f"{module}_neuron_vit3d.py")
    found = {folder for folder in inside for name in names if (PACKAGE / folder / name).is_file()}
    return found | {folder for folder in BESIDE if (REPOSITORY / folder / f"{module}.py").is_file()}


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_tests_lie_where_what_they_test_lies(path):
    folder = path.parent.relative_to(REPOSITORY / "tests").as_posix()
    homes = folders_of(path.stem.removeprefix("test_"))
    assert folder in BESIDE or (PACKAGE / folder).is_dir(), f"{folder} mirrors nothing"
    assert not homes or folder in homes, f"{path.name} belongs into tests/{' or tests/'.join(sorted(homes))}"


def test_folders_of_modules_are_known():
    assert folders_of("kept") == {"volumes"} and folders_of("swc") == {"morphology", "morphology/formats"}
    assert folders_of("modeling") == {"model"} and folders_of("files") == {"."} and folders_of("train_script") == set()
