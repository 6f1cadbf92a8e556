"""Names that torch calls private are used behind three doors, and nowhere else."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor, nn

import steppe
import steppe_lab

DOORS = {
    "steppe/torch_internals.py",
    "steppe/curvature/double_backward/engine.py",
    "steppe/graphs/graph_attributes.py",
}
ALLOWED = {
    # Cleared in every step: through a door, a step would pass one file more.
    "steppe/parameters.py": {"_cache"},
    # A wrapper is a torch optimizer and runs the hooks that users registered with it,
    # as torch's own methods do, which it replaces.
    "steppe/stepping/wrapper.py": {
        "_optimizer_step_pre_hooks",
        "_optimizer_state_dict_pre_hooks",
        "_optimizer_state_dict_post_hooks",
        "_optimizer_load_state_dict_pre_hooks",
        "_optimizer_load_state_dict_post_hooks",
    },
    # Marks of Lightning and transformers, which are not torch.
    "steppe/stepping/hooks/gradient_sync.py": {"_trainer"},
    "steppe/integrations/lightning.py": {"_skip_backward"},
    "steppe/integrations/causal_lm.py": {"_attn_implementation"},
}


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The code of both packages, by file."""
    roots = [Path(p) for package in (steppe, steppe_lab) for p in package.__path__]
    return {
        f"{root.name}/{path.relative_to(root).as_posix()}": ast.parse(path.read_text())
        for root in roots
        for path in root.rglob("*.py")
    }


def private(name: str) -> bool:
    """Whether a name is private; the family `torch._foreach_*` is public in effect."""
    inside = name.startswith("__") or name == "_"
    return name.startswith("_") and not inside and not name.startswith("_foreach_")


def defined(files: list[ast.Module]) -> set[str]:
    """Names that code defines: functions, classes, variables, attributes of self."""
    found = set()
    for node in (node for tree in files for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(getattr(node, "ctx", None), ast.Store):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
                found.add(node.attr)
    return found


@functools.cache
def own_names() -> set[str]:
    """Names of the project; one that torch has too is its own in its file alone."""
    return defined([*trees().values()]) - set(vars(nn.Module())) - set(dir(Tensor))


def imported(tree: ast.Module) -> Iterator[tuple[str, list[str], bool]]:
    """For each imported name: the name, its dotted path, whether it is torch's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                path = alias.name.split(".")
                yield alias.asname or path[0], path, path[0] == "torch"
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                path = [*node.module.split("."), alias.name]
                yield alias.asname or alias.name, path, path[0] == "torch"


def foreign(tree: ast.Module) -> set[str]:
    """Private names in a file that are neither its own nor the project's."""
    own, names = own_names() | defined([tree]), list(imported(tree))
    of_torch = {name for name, _, torchs in names if torchs}
    others = {name for name, _, torchs in names if not torchs}
    found = {part for _, path, torchs in names if torchs for part in path}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            start = node.value
            while isinstance(start, ast.Attribute):
                start = start.value
            root = start.id if isinstance(start, ast.Name) else ""
            if root in of_torch or (root not in others and node.attr not in own):
                found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            *("getattr", "hasattr", "setattr", "delattr"),
        ):
            text = [c.value for c in ast.walk(node.args[1]) if hasattr(c, "value")]
            found |= {t for t in text if isinstance(t, str) and t not in own}
    return set(filter(private, found))


@pytest.mark.slow
def test_private_names_of_torch_stay_behind_their_doors():
    outside = {
        path: names
        for path, tree in trees().items()
        if path not in DOORS and (names := foreign(tree) - ALLOWED.get(path, set()))
    }
    assert outside == {}


def test_every_exception_is_still_one():
    unused = {path: names - foreign(trees()[path]) for path, names in ALLOWED.items()}
    assert not any(unused.values()), unused
    assert all(foreign(trees()[path]) for path in DOORS)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import torch\ntorch._C._will_engine_execute_node(1)", "_C"),
        ("from torch.utils._pytree import tree_map", "_pytree"),
        ("from torch.nn.utils import parametrize\nparametrize._cache", "_cache"),
        ("def f(node): return node._saved_input", "_saved_input"),
        ("def f(node, key): return getattr(node, f'_saved_{key}')", "_saved_"),
        ("def f(module): module._buffers['a'] = None", "_buffers"),
        ("def f(p): return p.grad._version", "_version"),
    ],
)
def test_a_private_name_is_seen_however_it_is_written(code, name):
    assert name in foreign(ast.parse(code))


def test_names_of_the_project_and_foreach_are_no_private_names_of_torch():
    code = "import torch, sys\nsys._getframe(1)\ntorch._foreach_add_([], [])"
    own = "class A:\n def f(self):\n  self._b = 1\n  return other._b"
    assert foreign(ast.parse(f"{code}\n{own}")) == set()
