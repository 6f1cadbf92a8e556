"""A Chromium for the tests of pages."""

import os
import shutil
from pathlib import Path

import pytest

ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
]


def chromium():
    named = os.environ.get("STEPPE_CHROMIUM")
    found = named or shutil.which("chromium") or "/usr/bin/chromium"
    return found if Path(found).exists() else None


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    if path is None:
        reason = "no Chromium: set STEPPE_CHROMIUM to its path."
        if os.environ.get("STEPPE_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield opened
        opened.close()
