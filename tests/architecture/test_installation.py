"""What works where only the library is installed, and what the rest is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from steppe.errors import install
from steppe_lab.cli import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml"}
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
    assert done.stderr.startswith("steppe: the command needs jinja2, matplotlib, PIL, ")
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


@pytest.mark.slow
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


def test_pages_with_code_of_the_laboratory_say_how_it_is_installed():
    code = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
    pages = [
        page
        for page in ROOT.glob("docs/*.md")
        if any("steppe_lab" in block for block in code.findall(page.read_text()))
    ]
    assert len(pages) > 5
    named = re.compile(r"pip install ['\"]\.\[")
    assert not [page.name for page in pages if not named.search(page.read_text())]


# ---- the wheel, where there is torch and numpy and nothing else ----------------------

PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
    )
    if re.search(r"^```(python|diff)\n", page.read_text(), re.M)
    # Examples import all they need at their beginning, below what to install.
    and page.parent.name != "examples"
]
FILES = {"your-own-checkpoint.md": ["## A language model"]}  # another module's names


def required(name: str) -> set[str]:
    """Distributions that one needs, itself among them, without extras."""
    found, left = set(), [name]
    while left:
        name = re.split(r"[^\w.-]", left.pop())[0]
        if name in found:
            continue
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        found.add(name)
        left += [each for each in needed if "extra ==" not in each]
    return found


def run(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, env=clean, **more
    )


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, torch and numpy, and what torch itself needs."""
    folder = tmp_path_factory.mktemp("empty")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder)
    done = run(*pip, "wheel", *options, ROOT)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("steppe-*.whl")
    python = folder / "venv" / "bin" / "python"
    assert (
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv").returncode
        == 0
    )
    done = run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("venv/lib/python*/site-packages")
    for name in required("torch") | required("numpy"):
        files = metadata.files(name) or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            target = Path(str(metadata.distribution(name).locate_file(top)))
            if target.exists() and not (site / top).exists():
                (site / top).symlink_to(target)
    return folder


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_their_types(empty):
    (wheel,) = empty.glob("steppe-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"steppe", "steppe_lab"} == {t for t in tops if not t.endswith("dist-info")}
    assert {"steppe/py.typed", "steppe_lab/py.typed"} <= set(names)


@pytest.mark.slow
def test_nothing_is_there_but_the_wheel_torch_and_numpy(empty):
    code = (
        "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, sys.argv[1:])))"
    )
    absent = ("pydantic", "matplotlib", "scipy", "sklearn", "lightning", "transformers")
    python = empty / "venv/bin/python"
    assert run(python, "-c", code, *absent, cwd=empty).returncode == 0
    where = run(python, "-c", "import steppe; print(steppe.__file__)", cwd=empty).stdout
    assert where.startswith(str(empty))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_every_page_runs_or_says_what_to_install(page, empty, tmp_path):
    runner = ROOT / "tests" / "support" / "run_page.py"
    apart = FILES.get(page.name, [])
    done = run(empty / "venv/bin/python", runner, page, *apart, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout):
        if row["error"]:
            assert says_what_to_install(row, page.read_text()), row


def says_what_to_install(row: dict[str, str], text: str) -> bool:
    """Whether the error does, or the page for a package that its code imports."""
    if row["error"] != "ModuleNotFoundError":
        return row["text"].count("pip install") == 1
    package = (row["missing"] or "").split(".")[0]
    extras = ",".join(re.findall(r"pip install ['\"]\.\[([\w,]+)\]", text)).split(",")
    if package in {name for extra in extras for name in of_extra(extra)}:
        return True
    return bool(re.search(rf"pip install ['\"\w.\[\]-]*{package}", text))


def of_extra(extra: str) -> set[str]:
    """Packages that an extra of steppe names, and those of the extras it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = set()
    for each in project["optional-dependencies"].get(extra, []):
        inner = re.match(r"steppe\[([\w,]+)\]", each)
        if inner is None:
            packages.add(re.split(r"[^\w-]", each)[0])
        else:
            packages |= {p for name in inner[1].split(",") for p in of_extra(name)}
    return packages


def test_an_extra_names_its_packages_and_those_of_others():
    assert {"duckdb", "pydantic", "scipy", "h5py", "matplotlib"} <= of_extra("studies")
    assert of_extra("nowhere") == set()


@pytest.mark.slow
def test_the_command_of_the_wheel_says_what_to_install(empty):
    done = run(empty / "venv/bin/steppe", "compare", "sgd", cwd=empty)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"run {install('lab').partition('run ')[2]}.\n")
