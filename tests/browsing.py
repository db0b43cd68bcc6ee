"""A real Chromium for the tests of the page, and what a person sees and does there."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import pytest
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Page

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE: Final = 40_000
"""Milliseconds; what takes so long on no idle machine."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a headless browser of this machine; without one the test fails and says what to install."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail("the tests of the page need Chromium: `apt-get install chromium`, or any of " + ", ".join(NAMES))
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield browser
        browser.close()


@dataclass(slots=True)
class Visitor:
    """Somebody who looks at a page; `faults` are errors of its scripts, `strays` are requests to anywhere else."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    def go(self, address: str = "") -> Page:
        """Open the page at an address below it."""
        self.page.goto(self.url + address)
        return self.page

    def job(self, name: str) -> Locator:
        """Return the card of a job."""
        return self.page.get_by_role("listitem").filter(has=self.page.get_by_role("link", name=name, exact=True))


@contextmanager
def visiting(
    browser: Browser, url: str, *, width: int = 1200, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Visitor]:
    """Yield a visitor with a fresh profile, who must meet no script error and cause no request elsewhere."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    visitor = Visitor(context.new_page(), url)
    page = visitor.page
    page.on("pageerror", lambda error: visitor.faults.append(str(error)))
    page.on("console", lambda said: visitor.faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("request", lambda sent: None if sent.url.startswith(url) else visitor.strays.append(sent.url))
    try:
        yield visitor
        assert (visitor.faults, visitor.strays) == ([], [])
    finally:
        context.close()
