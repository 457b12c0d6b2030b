"""A page opened in headless Chromium, with everything that it asked for and complained about."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 30_000
"""As long as playwright waits for anything else."""


def expect(found):
    """Playwright's assertions, which wait until what they say is so: a page shows what was asked a moment later."""
    return pytest.importorskip("playwright.sync_api").expect(found)


@contextmanager
def launched_browser() -> Iterator:
    """Headless Chromium; a test that needs it is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; install the package chromium")
    with playwright.sync_playwright() as driver:
        playwright.expect.set_options(timeout=PATIENCE_MS)
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A page from disk (a path) or from a server (an address that ends in /)."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(viewport={"width": 1440, "height": 860}, **options)
        self.page = self.context.new_page()
        self.path, self.requests, self.complaints = path, [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type != "log" else None)

    @property
    def address(self):
        return self.path if isinstance(self.path, str) else self.path.as_uri()

    def open(self, fragment):
        """Go to a state of the page and wait until it is shown."""
        tab = re.match(r"#/(\w+)", fragment)[1]
        if self.requests:
            self.page.evaluate(
                "fragment => { delete document.documentElement.dataset.shown; location.hash = fragment }", fragment
            )
        else:
            self.page.goto(self.address + fragment)
        self.page.wait_for_function("tab => document.documentElement.dataset.shown === tab", arg=tab)
        return self.page

    def close(self):
        """Check that the page asked for itself alone and complained of nothing."""
        self.context.close()
        assert self.complaints == []
        assert {url.split("#")[0] for url in self.requests} == {self.address}
