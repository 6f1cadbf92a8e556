"""What all tests share: where the published files of real data sets lie."""

import gc
import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Thousands of tests are collected without a search for garbage among them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def data_dir():
    """Folder named by STEPPE_TEST_DATA, or a folder shared/data beside the checkout.

    Without it, tests of real data are skipped, or fail where STEPPE_REQUIRE_DATA=1.
    """
    named = os.environ.get("STEPPE_TEST_DATA")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    reason = f"no data folder: {folder} does not exist; set STEPPE_TEST_DATA."
    if os.environ.get("STEPPE_REQUIRE_DATA") == "1":
        return pytest.fail(reason)
    return pytest.skip(reason)


@pytest.fixture(autouse=True)
def _no_folder_of_an_earlier_command(monkeypatch):
    """A command called in this process leaves its --data-dir in the environment."""
    monkeypatch.delenv("STEPPE_DATA_DIR", raising=False)
