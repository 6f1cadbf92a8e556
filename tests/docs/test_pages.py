"""The pages say what is so: their code runs, their paths and names exist."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from steppe.measures import MEASURES
from steppe.measures.families import family_of
from steppe.optimizers import OPTIMIZERS
from steppe_lab.cli import VERBS, command_of, verb_module
from steppe_lab.cli.parsing import check_options
from steppe_lab.datasets.loading import LOAD
from steppe_lab.training.build import BUILD
from steppe_lab.training.optimizer_text import read_optimizer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
SLOW_SECTION = "## Several processes"  # from there on, imports take seconds
RUN_ELSEWHERE = {  # pages whose code another test runs
    "README.md": "tests/docs/test_pages.py",
    "your-own-code.md": "tests/docs/test_pages.py",
    "your-own-checkpoint.md": "tests/lab/test_own_files.py",
    "moving-here.md": "tests/contracts/test_compat.py",
    "integrations.md": "tests/support/integrations/harness.py",
    **dict.fromkeys(
        (
            *("data_analysis.md", "gen_analysis.md", "loss_plots.md"),
            *("sharpest_directions.md", "training_sample.md"),
        ),
        "tests/docs/test_examples.py",
    ),
}


def blocks(page: Path, language: str) -> list[str]:
    """Blocks of code of a language, lines that go on joined."""
    text = page.read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    return [block.replace("\\\n", "") for block in found]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def with_code() -> list[Path]:
    pages = ROOT.glob("docs/**/*.md")
    return [p for p in pages if blocks(p, "python") and p.name not in RUN_ELSEWHERE]


def run_code(text: str, name: str) -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        exec(compile(block, name, "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("page", with_code(), ids=page_name)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick, *_ = page.read_text().partition(SLOW_SECTION)
    run_code(quick, page.name)


@pytest.mark.slow
def test_the_code_of_the_page_on_loops_runs_to_its_end():
    text = (ROOT / "docs/loops.md").read_text()
    assert SLOW_SECTION in text
    run_code(text, "loops.md")


@pytest.mark.parametrize("page", RUN_ELSEWHERE)
def test_code_that_is_run_elsewhere_is(page):
    assert page in (ROOT / RUN_ELSEWHERE[page]).read_text()


def test_the_code_of_the_readme_runs_from_top_to_bottom(capsys):
    names: dict[str, object] = {}
    for block in blocks(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), names)
    assert "top_eigenvalue" in capsys.readouterr().out
    assert names["pairs"].converged


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_in_pages_use_verbs_and_options_that_exist(page):
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["steppe"]:
                assert words[1] in VERBS, line
                command, rest = command_of(words[1:])
                check_options(verb_module(command).Args, command, rest)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_methods_in_commands_of_pages_exist_with_their_settings(page):
    for line in "\n".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["steppe", "compare"]:
            base = words[words.index("--base") + 1] if "--base" in words else "sgd"
            for text in compared(words[2:]):
                read_optimizer(text, base)


def compared(words: list[str]) -> list[str]:
    """The methods that a command compares."""
    options = [i for i, word in enumerate(words) if word.startswith("--")]
    return words[: min(options, default=len(words))]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_in_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_diff_of_the_readme_is_part_of_one_that_is_run():
    (diff,) = blocks(ROOT / "README.md", "diff")
    assert diff in (ROOT / "docs" / "three-lines.md").read_text()


def test_pictures_in_pages_are_there_and_small():
    shown = [
        page.parent / name
        for page in PAGES
        for name in re.findall(r'(?:src|srcset)="([^"]+)"', page.read_text())
    ]
    assert len(shown) >= 2
    assert {path.name: path.stat().st_size < 100_000 for path in shown} == {
        path.name: True for path in shown
    }


def test_the_table_of_the_readme_has_the_counted_costs():
    text = (ROOT / "README.md").read_text()
    for entry in OPTIMIZERS:
        costs = re.findall(rf"`steppe.{entry.make.__name__}` \| ([\d.]+)", text)
        assert costs == [f"{entry.spec.grad_evals:g}"], entry.name


@pytest.fixture
def generator(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("docs.generator.pages")


def test_the_pages_of_methods_are_what_make_docs_writes(generator):
    wanted = generator.pages()
    folder = generator.FOLDER
    written = {
        str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.md")
    }
    stale = {
        name
        for name in written.keys() | wanted.keys()
        if written.get(name) != wanted.get(name)
    }
    assert not stale, "run `make docs`"


@pytest.mark.parametrize("entry", list(OPTIMIZERS), ids=lambda entry: entry.name)
def test_the_page_of_an_optimizer_explains_every_setting(entry):
    text = (ROOT / f"docs/methods/optimizers/{entry.name}.md").read_text()
    explained = set(re.findall(r"^- \*\*(\w+)\*\*: ", text, re.M))
    assert set(inspect.signature(entry.make).parameters) <= explained
    assert f"| Gradients per step | {entry.spec.grad_evals:g}, " in text


@pytest.mark.parametrize("entry", list(MEASURES), ids=lambda entry: entry.name)
def test_the_page_of_a_measure_explains_every_setting(entry):
    page = ROOT / f"docs/methods/measures/{family_of(entry)}/{entry.name}.md"
    text = page.read_text()
    explained = set(re.findall(r"^- \*\*(\w+)\*\*: ", text, re.M))
    assert set(entry.settings()) <= explained
    assert f"| Cost at the defaults | {entry.spec.cost_text} |" in text
    assert f"| Direction | {entry.spec.direction_text} |" in text


def test_the_costs_on_the_page_of_choice_are_what_make_docs_writes(generator):
    text = generator.CHOICE.read_text()
    assert text == generator.with_costs(text), "run `make docs`"
    for entry in OPTIMIZERS:
        assert f"/{entry.name}.md) | {entry.spec.grad_evals:g} | " in text


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


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_pages_are_written_to_their_end(page):
    text = page.read_text()
    left = re.findall(r"^ *(RESULTS|TODO|TBD|FIXME|XXX|[A-Z]{4,})[.:]? *$", text, re.M)
    assert not left
    assert len(re.findall(r"\w+", text)) > 40, "nearly empty"


@pytest.mark.slow
def test_the_code_of_the_page_on_your_own_code_runs(tmp_path):
    page = ROOT / "docs" / "your-own-code.md"
    files = ("mycode.py", "waves.py", "counting.py")
    for name, code in zip(files, blocks(page, "python"), strict=True):
        (tmp_path / name).write_text(code)
    command = Path(sys.executable).with_name("steppe")
    for line in blocks(page, "sh"):
        words = [command, *shlex.split(line)[1:], "--measures", "lpf:samples=3"]
        done = subprocess.run(
            [*words, "--json"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 2
    for contract in (BUILD, LOAD):  # what messages say of it
        assert contract.partition(" by ")[2] in page.read_text()


def test_the_method_of_the_page_on_contributing_steps():
    (code, *_) = blocks(ROOT / "CONTRIBUTING.md", "python")
    made = {"__name__": "mine"}
    try:
        exec(compile(code, "CONTRIBUTING.md", "exec"), made)
        w = torch.nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
        opt = OPTIMIZERS.build("mine:rho=0.5", torch.optim.SGD([w], lr=0.1))
        for _ in opt.passes():
            (w**2 / 2).sum().backward()
        opt.step()
    finally:
        OPTIMIZERS._entries.pop("mine", None)
    assert w.item() == pytest.approx(3 - 0.1 * (3 - 0.5 * 3))
