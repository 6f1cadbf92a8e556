"""The pages say what is so: their code runs, their paths and names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from steppe.optimizers import OPTIMIZERS
from steppe_lab.cli import VERBS, verb_module
from steppe_lab.cli.parsing import check_options

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


def test_every_room_of_the_architecture_page_exists():
    (picture,) = blocks(ROOT / "ARCHITECTURE.md", "")
    for package in ("steppe", "steppe_lab"):
        for path in (ROOT / "src" / package).iterdir():
            name = path.stem
            if not name.startswith(("_", "py")):
                assert re.search(rf"\b{name}\b", picture), name
