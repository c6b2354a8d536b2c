# SPDX-License-Identifier: Apache-2.0
"""A real browser for tests of pages; they are skipped with a word where there is none."""

import shutil
from contextlib import contextmanager

import pytest


@contextmanager
def opened(path, *, width=1440, height=900, touch=False, scripts=True):
    """Yield (page, errors) of a file in headless Chromium; errors of the console and of scripts are collected."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((found for name in names if (found := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt install chromium")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=touch, java_script_enabled=scripts
        )
        context.set_default_timeout(120_000)
        page, errors = context.new_page(), []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        yield page, errors
        browser.close()
