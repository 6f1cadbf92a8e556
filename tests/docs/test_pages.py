"""The pages say what is so: their code runs, their paths and names exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from steppe.optimizers import OPTIMIZERS
from steppe_lab.cli import VERBS, verb_module
from steppe_lab.cli.parsing import check_options
from steppe_lab.datasets import LOAD
from steppe_lab.training.recipe import BUILD

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def test_the_code_of_the_readme_runs_from_top_to_bottom(capsys):
    names: dict[str, object] = {}
    for block in blocks(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), names)
    assert "top_eigenvalue" in capsys.readouterr().out
    assert names["pairs"].converged


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_pages_use_verbs_and_options_that_exist(page):
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["steppe"]:
                verb, *rest = words[1:]
                assert verb in VERBS, line
                check_options(verb_module(verb).Args, verb, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_table_of_the_readme_has_the_counted_costs():
    text = (ROOT / "README.md").read_text()
    for entry in OPTIMIZERS:
        costs = re.findall(rf"`steppe.{entry.make.__name__}` \| (\d+)", text)
        assert costs == [f"{entry.spec.grad_evals:g}"], entry.name


def rooms(package: str) -> set[str]:
    """Modules and folders of a package."""
    names = {path.stem for path in (ROOT / "src" / package).iterdir()}
    return {name for name in names if not name.startswith(("_", "py"))}


def drawn(picture: str) -> dict[str, set[str]]:
    """Names without parentheses in the picture of the house, by package."""
    found: dict[str, set[str]] = {"steppe": set(), "steppe_lab": set()}
    package = ""
    for line in picture.splitlines():
        package = line[:12].strip(" -") or package
        names = re.split(r" {3,}", line[13:].strip())[0]
        found[package] |= set(re.findall(r"(?<![(\w])[a-z_]+(?![)\w])", names))
    return found


def test_the_rooms_of_the_architecture_page_are_the_rooms_there_are():
    (picture,) = blocks(ROOT / "ARCHITECTURE.md", "")
    assert drawn(picture) == {name: rooms(name) for name in ("steppe", "steppe_lab")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_written_to_their_end(page):
    text = page.read_text()
    left = re.findall(r"^ *(RESULTS|TODO|TBD|FIXME|XXX|[A-Z]{4,})[.:]? *$", text, re.M)
    assert not left
    assert len(re.findall(r"\w+", text)) > 40, "nearly empty"


def test_the_code_of_the_page_on_your_own_code_runs(tmp_path):
    page = ROOT / "docs" / "your-own-code.md"
    (code,), (line,) = blocks(page, "python"), blocks(page, "sh")
    (tmp_path / "mycode.py").write_text(code)
    command = Path(sys.executable).with_name("steppe")
    words = [command, *shlex.split(line)[1:], "--measures", "lpf:samples=3", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    for contract in (BUILD, LOAD):  # what messages say of it
        assert contract.partition(" by ")[2] in page.read_text()
