"""What works where only the library is installed, and what the rest is told."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from steppe.errors import install
from steppe_lab.cli import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
IMPORTED_AS = {"scikit-learn": "sklearn"}  # where the two names differ
# None in sys.modules hides a package from every import.
HIDDEN = f"import sys; sys.modules.update(dict.fromkeys({PACKAGES!r}))\n"


def names(extra: str) -> set[str]:
    """Packages of an extra as they are imported; extras of its own among them."""
    found = set()
    for needed in EXTRAS[extra]:
        name = re.split(r"[<>=\[]", needed)[0]
        found |= names("viz") if name == "steppe" else {IMPORTED_AS.get(name, name)}
    return found


def bare(code: str) -> subprocess.CompletedProcess[str]:
    """Run code where only the library is installed."""
    return subprocess.run(
        [sys.executable, "-c", HIDDEN + code], capture_output=True, text=True
    )


def test_the_command_knows_which_packages_it_needs():
    assert set(PACKAGES) == names("lab")


@pytest.mark.parametrize("arguments", [["--help"], [], ["compare", "sgd"], ["nothing"]])
def test_without_its_packages_the_command_says_what_to_install(arguments):
    done = bare(f"from steppe_lab.cli import main; sys.exit(main({arguments}))")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("steppe: the command needs jinja2, matplotlib, pyd")
    assert done.stderr.endswith("run pip install '.[lab]' in a clone of steppe.\n")
    assert done.stderr.count("\n") == 1


def test_one_package_that_is_missing_is_named():
    code = "import sys; sys.modules['rich'] = None; from steppe_lab.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit(main(['list']))"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "the command needs rich beside the library" in done.stderr


def test_the_blocks_of_the_readme_run_on_the_library_alone_but_for_pictures():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    code = "".join(blocks)
    figures = [line for line in code.splitlines() if "steppe.plots" in line]
    code = "\n".join(line for line in code.splitlines() if line not in figures)
    assert len(figures) == 1
    done = bare(code)
    assert (done.returncode, done.stderr) == (0, "")
    done = bare("import torch, steppe; steppe.plots.bars({'a': 1.0}, xlabel='')")
    assert done.stderr.endswith(f"which is not installed; {install('viz')}.\n")


def test_no_text_installs_steppe_from_an_index():
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py")]
    from_index = re.compile(r"pip install (-\S+ )*['\"]?steppe")
    assert texts
    assert not [path for path in texts if from_index.search(path.read_text())]
