"""Packages whose names are looked up on first use, in a package made for it."""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = {
    "__init__.py": "from steppe.registry.packages import lazy\nlazy(__name__)\n",
    "__init__.pyi": (
        "from meadow import flowers as flowers\n"
        "from meadow.grass import Blade as Blade\n"
    ),
    "grass.py": "class Blade:\n    pass\n",
    "flowers.py": "",
}
METHODS = {
    "__init__.py": (
        "from steppe.registry.packages import offer\n"
        "from meadow.abstract import KINDS as KINDS\n"
        "offer(__name__, KINDS)\n"
    ),
    "abstract.py": (
        "from steppe.registry.registry import Registry\n"
        "from steppe.registry.specs import Spec\n"
        "KINDS = Registry('kind', Spec)\n"
    ),
    "new.py": (
        "from meadow.abstract import KINDS\n"
        "class Reed:\n    pass\n"
        "@KINDS.add('reed', source='here', offers=Reed)\n"
        "def reed():\n    return Reed()\n"
        "@KINDS.add('sedge', source='here')\n"
        "class Sedge:\n    pass\n"
    ),
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] == "meadow"]:
        del sys.modules[name]


def written(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "meadow"
    package.mkdir()
    for name, text in files.items():
        (package / name).write_text(text)
    return folder


def zipped(folder: Path) -> Path:
    archive = folder / "meadow.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name, text in FILES.items():
            made.writestr(f"meadow/{name}", text)
    return archive


@pytest.mark.parametrize("place", [lambda f: written(f, FILES), zipped])
def test_names_of_a_stub_are_imported_on_first_use(place, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(place(tmp_path))
    meadow = importlib.import_module("meadow")
    assert meadow.__all__ == ["flowers", "Blade"]
    assert dir(meadow) == ["Blade", "flowers"]
    assert "meadow.grass" not in sys.modules
    assert meadow.Blade is sys.modules["meadow.grass"].Blade
    assert meadow.flowers is sys.modules["meadow.flowers"]
    with pytest.raises(AttributeError, match="module 'meadow' has no attribute 'Bla'"):
        meadow.Bla  # noqa: B018


def test_a_new_file_offers_its_class_without_a_line_elsewhere(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(written(tmp_path, METHODS))
    meadow = importlib.import_module("meadow")
    assert meadow.Sedge is sys.modules["meadow.new"].Sedge
    assert meadow.Reed is sys.modules["meadow.new"].Reed
    assert {"Reed", "Sedge", "KINDS"} <= set(dir(meadow))
    with pytest.raises(AttributeError, match="has no attribute 'reed'"):
        meadow.reed  # noqa: B018
