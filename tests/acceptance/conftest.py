"""A browser for the tests of pages."""

import pytest

from tests.browsing import launched_browser


@pytest.fixture(scope="module")
def browser():
    """One browser per module: its event loop must be gone before a notebook's kernel is started."""
    with launched_browser() as browser:
        yield browser
