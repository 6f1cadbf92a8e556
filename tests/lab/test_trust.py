"""What a file names is data: code of the user runs where the caller says so."""

import csv
import importlib.util
import io
import json
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from comparisons import comparison, row
from steppe.errors import StoreError, TrustError
from steppe.measures import MEASURES
from steppe.registry.registry import reading
from steppe_lab.cli import main
from steppe_lab.execution.local import run_local
from steppe_lab.reports.comparison.page import render
from steppe_lab.reports.comparison.rows import to_csv
from steppe_lab.runs import WORK
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import CompareSettings, TrainingSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.store.store import Store
from steppe_lab.studies.comparison import stored_study

FIELDS = {
    "data": "{}",
    "model": "{}",
    "base": "{}:lr=0.1",
    "optimizers": ["sgd", "{}"],
    "average of the weights": ["sgd", "sgd+{}"],
    "defaults": ["{}:rho=0.1"],
    "measures": ["{}"],
}
CODE = """
from pathlib import Path
Path({touched!r}).touch()
def run(*args, lr=0.1, rho=0.1, **more):
    raise RuntimeError("called")
"""


@pytest.fixture
def evil(tmp_path, monkeypatch, request):
    """The name of a function, and the file that the import of its module makes."""
    module = f"evil_{abs(hash(request.node.name))}"
    touched = tmp_path / "touched"
    code = CODE.format(touched=str(touched))
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{module}:run", touched


def begun(root, **settings):
    """A store with the settings of a comparison, as somebody else may have left it."""
    folder = root / "studies"
    folder.mkdir(parents=True)
    (folder / "compare-x.json").write_text(json.dumps(settings))
    return root


@pytest.mark.parametrize("field", FIELDS)
def test_a_stored_study_runs_no_code_that_is_not_trusted(field, evil, tmp_path):
    name, touched = evil
    text = json.dumps(FIELDS[field]).replace("{}", name)
    key = field if field in CompareSettings.model_fields else "optimizers"
    store = Store(begun(tmp_path / "store", **{key: json.loads(text)}))
    with pytest.raises(StoreError, match=rf"compare-x.json names .*--trust {name}"):
        stored_study(store)
    assert not touched.exists()
    with pytest.raises(StoreError, match=f"--trust {name}"):
        stored_study(store, trust=["another:run"])


@pytest.mark.parametrize(
    ("arguments", "finds"),
    [
        (["--version"], False),
        (["train", "--optimizer", "sam:rho=0.1", "--bogus"], False),
        (["train", "--optimizer", "sgd+ema:decay=0.9", "--bogus"], False),
        (["train", "--model", "nets:build", "--bogus"], True),
        (["train", "--model=my.nets:Net:width=3", "--bogus"], True),
    ],
)
def test_files_in_the_current_folder_are_modules_only_where_code_is_named(
    arguments, finds, tmp_path, monkeypatch
):
    """Torch tries to import `triton`, `cuda` and more that may be missing."""
    (tmp_path / "absent_library.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    main(arguments)
    assert bool(importlib.util.find_spec("absent_library")) == finds


def test_report_runs_code_of_a_stored_study_where_it_is_trusted(evil, tmp_path, capsys):
    name, touched = evil
    out = ["--out", str(begun(tmp_path / "store", measures=[name]))]
    assert main(["report", *out]) == 2
    assert f"name it with --trust {name}." in capsys.readouterr().err
    assert not touched.exists()
    assert main(["report", *out, "--trust", name]) == 2  # it is no measure
    assert touched.exists()


@pytest.mark.slow
def test_a_worker_runs_no_code_that_only_a_stored_config_names(evil, tmp_path):
    name, touched = evil
    recipe = recipe_of(TrainingSettings(epochs=1, train_samples=20), "sgd", 0)
    config = config_of(recipe) | {"model": {"name": name, "settings": {}}}
    store = Store(tmp_path / "store")
    run = store.add(config)
    outcome = run_local(store, [run], WORK)
    assert f"--trust {name}" in outcome.failed[run].reason
    assert not touched.exists()


def test_a_name_is_the_callers_own_outside_of_any_reading(evil):
    name, touched = evil
    with reading("a file", ["another:run"]), pytest.raises(TrustError):
        MEASURES.parse(name)
    with reading("a file", [name]), reading("another", ()), pytest.raises(TrustError):
        MEASURES.parse(name)
    assert not touched.exists()
    assert MEASURES.parse(name).name == name


def test_code_known_to_this_process_is_refused_in_a_record_all_the_same(evil):
    name, _ = evil
    MEASURES.parse(name)
    with reading("a file", ()), pytest.raises(TrustError, match="a file names"):
        MEASURES.parse(name)


class Markup(HTMLParser):
    """Tags, attributes and texts of a page, and where its links lead."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.links, self.text = Counter(), set(), [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attributes}
        self.links += [to for name, to in attributes if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
def test_names_in_a_page_are_text_and_no_markup():
    places = "optimizer", "measure", "data", "model", "failure", "command", "version"
    # They end an attribute, a style, a comment and a script, and begin elements.
    evil = "\"' onload=a() x=--></style></script><script>a('{}')</script><img src=x>"
    said = {place: evil.format(place) for place in places}
    made = comparison(
        row(said["optimizer"], **{said["measure"]: 1.0}),
        row("sam", **{said["measure"]: 2.0}),
        data=said["data"],
        model=said["model"],
        failures=(said["failure"],),
    )
    versions = {"torch": said["version"]}
    page = Markup(render(made, command=said["command"], versions=versions))
    # The page has one script and one style of its own.
    assert (page.tags["script"], page.tags["style"]) == (1, 1)
    assert not {name for name in page.attributes if name.startswith("on")}
    ours = ("#", "data:image/svg+xml;", "data:text/csv;", "data:,", "https://")
    assert [link for link in page.links if not link.startswith(ours)] == []
    assert {place for place in places if said[place] in page.text} == set(places)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_text_of_a_table_is_a_formula_for_a_spreadsheet(start):
    text = f"{start}1+cmd|' /C calc'!A1"
    made = comparison(row(text, error=-0.5, **{text: -1.0}), row("sam"))
    cells = [c for line in csv.reader(io.StringIO(to_csv(made))) for c in line]
    assert f"'{text}" in cells
    assert not any(cell.startswith(start) for cell in cells if len(cell) > 9)
    assert "-0.5" in cells  # a number stays one


def test_modules_that_name_code_by_text_are_few():
    """Whoever imports by a text that a file may hold must ask whether it is trusted."""
    source = Path(__file__).parents[2] / "src"
    users = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if "import_module(" in path.read_text()
    }
    assert users == {
        "steppe/registry/packages.py",  # public names and methods of the library
        "steppe/registry/registry.py",  # asks
        "steppe_lab/cli/__init__.py",  # verbs
        "steppe_lab/reports/measures/files.py",  # pyarrow, asks for it by name
        "steppe_lab/execution/worker.py",  # the work, which the caller names
        "steppe_lab/training/tensorboard.py",  # asks for it by name
        "steppe_lab/reports/tables/arrow.py",  # pyarrow, likewise
        "steppe_lab/reports/tables/formats.py",
        "steppe_lab/reports/tables/sql.py",  # duckdb, likewise
        "steppe_lab/cli/list_studies.py",  # studies that come with steppe
        "steppe_lab/studies/table_files.py",  # pyarrow, likewise
        "steppe_lab/studies/files.py",  # a study, which the caller names
        "steppe_lab/tasks/bleu.py",  # sacreBLEU, asks for it by name
        "steppe_lab/experiments/__init__.py",  # experiments that come with steppe
    }
