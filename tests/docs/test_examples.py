"""The examples: pages have the code of their scripts, and scripts run as they are."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "examples"
PAGES = (  # whose code is that of the scripts, which run here
    "data_analysis.md",
    "gen_analysis.md",
    "loss_plots.md",
    "sharpest_directions.md",
    "training_sample.md",
)
ALL_PICTURES = 1_500_000  # bytes


@pytest.fixture
def examples(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("docs.generator.examples")


def code_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)\n```$", page, re.M | re.S)


def test_every_script_has_a_page_and_every_page_a_script(examples):
    assert tuple(f"{name}.md" for name in examples.names()) == PAGES
    assert sorted(path.name for path in FOLDER.glob("*.md")) == sorted(
        [*PAGES, "README.md"]
    )


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_is_that_of_its_script(page, examples):
    text = (FOLDER / page).read_text()
    cells = list(examples.cells(page.removesuffix(".md")))
    assert code_of(text) == [c.source for c in cells if c.is_code], "make examples"
    assert all(c.source in text for c in cells if not c.is_code), "make examples"
    shown = re.findall(r'src="(images/.*?)"', text)
    titles = [c.title for c in cells if c.is_code and c.title]
    assert re.findall(r'alt="(.*?)"', text) == titles[: len(shown)] == titles


def test_pictures_of_the_pages_are_there_and_no_others(examples):
    shown = {
        name
        for page in PAGES
        for name in re.findall(r'"images/(.*?)"', (FOLDER / page).read_text())
    }
    there = {path.name: path.stat().st_size for path in FOLDER.glob("images/*")}
    assert shown == there.keys()
    assert sum(there.values()) < ALL_PICTURES


SCRIPT = """# %% [markdown]
# # A title
#
# A text.

# %%
# %matplotlib inline
from steppe import plots

print("printed")
1 + 1

# %% [markdown]
# More.

# %% A bar in words.
print("beside")
plots.bars({"a": 1.0}, xlabel="x")
"""


def test_a_page_has_texts_code_what_is_printed_and_figures(
    examples, monkeypatch, tmp_path
):
    monkeypatch.setattr(examples, "FOLDER", tmp_path)
    (tmp_path / "one.py").write_text(SCRIPT)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one-9-dark.svg").write_text("of an older page")
    examples.main(["one"])
    text = (tmp_path / "one.md").read_text()
    assert text.startswith("# A title\n\nA text.\n\n*Written by")
    assert "%matplotlib" not in text
    code, figure = code_of(text)
    assert code.startswith("from steppe import plots")
    assert "```text\nprinted\n2\n```\n\nMore.\n" in text
    assert figure.endswith('xlabel="x")')
    assert "```text\nbeside\n```\n\n<picture>" in text
    assert '<img alt="A bar in words." src="images/one-1-light.svg"' in text
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == ["one-1-dark.svg", "one-1-light.svg"]


def runs(page: str, folder: Path, **environment: str) -> None:
    """Run the script of a page as it is, in an empty folder."""
    clean = {k: v for k, v in os.environ.items() if k != "STEPPE_DATA_DIR"}
    script = FOLDER / page.replace(".md", ".py")
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_script_runs_without_any_data(page, tmp_path):
    runs(page, tmp_path)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("page", PAGES)
def test_a_script_runs_on_published_data(page, tmp_path, data_dir):
    runs(page, tmp_path, STEPPE_DATA_DIR=str(data_dir.resolve()))
