"""The rules of the house that a tool can check."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import steppe
import steppe_lab

SOURCES = [Path(p) for package in (steppe, steppe_lab) for p in package.__path__]
FILES = sorted(path for source in SOURCES for path in source.rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(m.name) for m in found if "__main__" not in m.name]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_library_imports_torch_and_numpy_only():
    code = """
import sys, torch, numpy
before = set(sys.modules)
import steppe
for name in steppe.__all__:
    if name != "plots":
        getattr(steppe, name)
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names) - {"steppe", "torch", "numpy"}))
"""
    assert run(code) == "[]"


def test_importing_steppe_or_showing_help_does_not_import_torch():
    code = """
import sys, steppe, steppe.errors
from steppe_lab.cli import main
for verb in ["compare", "train", "measure", "spectrum", "report", "list"]:
    try:
        main([verb, "--help"])
    except SystemExit:
        pass
print("torch" in sys.modules, "matplotlib" in sys.modules)
"""
    assert run(code).splitlines()[-1] == "False False"


def stub() -> dict[str, str]:
    """Public names, and the modules that type checkers read them from."""
    tree = ast.parse(Path(steppe.__file__).with_suffix(".pyi").read_text())
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {str(alias.asname): str(n.module) for n in nodes for alias in n.names}


def test_public_names_are_defined_where_type_checkers_read_them():
    assert set(stub()) == set(steppe.__all__) == set(dir(steppe))
    for name, home in stub().items():
        value = getattr(steppe, name)
        if inspect.ismodule(value):
            assert (home, value.__name__) == ("steppe", f"steppe.{name}")
        else:
            assert value.__name__ == name
            assert value.__module__ == home or value.__module__.startswith(f"{home}.")


def test_a_name_that_is_none_is_refused_with_the_nearest_one():
    with pytest.raises(AttributeError, match="'steppe' has no attribute 'SAMM'") as e:
        steppe.SAMM  # noqa: B018
    assert (e.value.name, e.value.obj) == ("SAMM", steppe)
    with pytest.raises(
        AttributeError, match=r"'steppe\.measures' has no attribute 'LP'"
    ):
        steppe.measures.LP  # noqa: B018


def test_a_star_import_gives_the_public_names():
    names: dict[str, object] = {}
    exec("from steppe import *", names)
    assert names.keys() - {"__builtins__"} == set(steppe.__all__)


def test_every_method_is_imported_where_type_checkers_look(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    exports = importlib.import_module("docs.generator.exports").exports()
    assert len(exports) == 8
    stale = [path for path, text in exports.items() if path.read_text() != text]
    assert not stale, "run make docs"


@pytest.mark.slow
def test_mypy_knows_the_type_of_every_public_name_and_finds_misspelled_ones(tmp_path):
    known = [f"steppe.{name}" for name in steppe.__all__]
    known += ["steppe.measures.LPF", "steppe.schedules.Cosine", "steppe.bases.PHB"]
    wrong = ["steppe.SAMM", "steppe.optimizers.SAMM", "steppe.measures.LP"]
    file = tmp_path / "names.py"
    lines = [f"reveal_type({name})" for name in known] + wrong
    file.write_text("import steppe\n" + "\n".join(lines) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", file],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    said = done.stdout.splitlines()
    types = [line for line in said if "Revealed type" in line]
    assert len(types) == len(known)
    assert not [line for line in types if 'is "Any"' in line]
    errors = [line for line in said if "error:" in line]
    assert len(errors) == len(wrong)
    assert all("has no attribute" in line for line in errors)


def test_public_names_have_docstrings():
    for name in steppe.__all__:
        assert inspect.getdoc(getattr(steppe, name)), name


def test_every_module_says_what_it_is():
    bare = [path for path in FILES if path.stat().st_size]
    missing = [p for p in bare if not ast.get_docstring(parsed(p))]
    assert not missing


def test_modules_stay_small_enough_to_read():
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_a_finished_method_is_never_overridden():
    for module in (*modules(steppe), *modules(steppe_lab)):
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == module.__name__:
                assert not overridden(cls), (cls, overridden(cls))


def overridden(cls: type) -> set[str]:
    """Methods that a class implements again after a base of this project did."""
    again = set()
    for base in cls.__mro__[1:]:
        if not base.__module__.startswith("steppe"):
            continue
        for name, method in vars(base).items():
            # torch puts a profiled `step` on every optimizer class.
            hooked = getattr(vars(cls).get(name), "hooked", False)
            finished = inspect.isfunction(method) and not name.startswith("__")
            abstract = getattr(method, "__isabstractmethod__", False)
            if finished and not abstract and not hooked and name in vars(cls):
                again.add(name)
    return again


def room(path: Path) -> str:
    """The folder of a package that a file lies in, at any depth."""
    source = next(source for source in SOURCES if source in path.parents)
    return path.relative_to(source).parts[0]


@cache
def imported(path: Path) -> set[str]:
    """Names of the packages that a file imports anywhere."""
    named: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            named.append(node.module)
    return {name.partition(".")[0] for name in named}


@pytest.mark.parametrize(
    "name", ["matplotlib", "rich", "tyro", "jinja2", "sklearn", "PIL"]
)
def test_only_the_rooms_made_for_it_import_a_tool(name):
    rooms = {
        "matplotlib": {"plots", "pages", "reports"},
        "rich": {"cli", "reports"},
        "tyro": {"cli"},
        "jinja2": {"pages"},
        "sklearn": {"datasets"},
        "PIL": {"datasets", "plots"},
    }
    for path in FILES:
        if name in imported(path):
            assert room(path) in rooms[name], path


BOUNDS = {  # figures only get better: who reaches a better one writes it here
    "modules_on_the_top_floor": 11,
    "layers_of_the_library": 9,
    "files_of_a_sam_step": 12,
    "folders_of_a_sam_step": 5,
    "files_beside_the_method": 9,
    "folders_beside_the_method": 2,
    "summaries_with_a_free_what": 5,
    "uses_of_found": 20,
}
COMMENTS = 3.0  # per 100 lines, at least


def test_the_figures_of_the_house_stay_within_their_bounds(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    figures = importlib.import_module("benchmarks.house").figures()
    assert figures.pop("comments_per_100_lines") >= COMMENTS
    assert {name: n for name, n in figures.items() if n > BOUNDS[name]} == {}
