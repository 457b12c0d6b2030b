"""One renderer, three hosts: the same page over HTTP and inside a notebook's frame."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from dashboards.page import write_report
from dashboards.resources import SECURITY_POLICY, RunResources
from dashboards.run_record import load_run
from dashboards.show import show
from interp.errors import ArtifactError
from tests.browsing import Visit, expect
from tests.invented_run import make_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "hosted", d_sae=128, hostile=True)


@pytest.fixture(scope="module")
def run(folder):
    return load_run(folder)


class Handler(BaseHTTPRequestHandler):
    """Answers a page's requests from a run; a server's whole duty towards the renderer."""

    resources: RunResources

    def do_GET(self):
        name = self.path.lstrip("/") or "index.html"
        try:
            answer = self.resources.answer(name.removeprefix("resource/"))
        except ArtifactError as error:
            self.send_error(404, re.sub(r"\s+", " ", str(error))[:80].encode("latin-1", "replace").decode("latin-1"))
            return
        self.send_response(200)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Security-Policy", SECURITY_POLICY)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *arguments):
        """Nothing is printed."""


@pytest.fixture(scope="module")
def address(run):
    handler = type("RunHandler", (Handler,), {"resources": RunResources(run)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


VIEWS = ("features/100", "features/100/quantiles", "features/100/cofiring", "tree/3", "map/3", "sample", "provenance")


def test_a_server_shows_the_same_page_and_is_asked_for_nothing_else(browser, address):
    visit = Visit(browser, address)
    page = visit.open("#/overview")
    page.wait_for_function("() => document.querySelectorAll('.canvas[data-drawn] .main-svg').length >= 2")
    for view in VIEWS:
        page = visit.open(f"#/{view}")
    page = visit.open("#/features/100")
    page.click(".context-source >> nth=0")
    page.wait_for_selector(".document .tok.peak")
    assert page.evaluate("window.injected") is None
    assert visit.complaints == []
    assert all(url.startswith((address, "blob:", "data:")) for url in visit.requests)
    visit.context.close()


def test_a_request_that_fails_says_so_and_is_made_again(browser, address):
    visit = Visit(browser, address)
    broken = ("**/resource/table", "**/resource/feature/100", "**/resource/figures-light", "**/resource/summary")
    for pattern in broken[:3]:
        visit.page.route(pattern, lambda route: route.fulfill(status=500))
    page = visit.open("#/overview")
    page.wait_for_function("() => /Could not be drawn.*500/.test(document.querySelector('.canvas').textContent)")
    page = visit.open("#/features/100")
    assert re.search("could not be shown.*table: the server answered 500", page.inner_text("main"), re.DOTALL)
    page.unroute(broken[0])
    page.click("button:has-text('Try again')")
    page.wait_for_function("() => document.querySelector('main').innerText.includes('feature/100: the server')")
    page.unroute(broken[1])
    page.click("button:has-text('Try again')")
    page.wait_for_selector("#feature-100 .context")
    visit.page.route(broken[3], lambda route: route.fulfill(status=500))
    page.reload()
    page.wait_for_function("() => document.body.innerText.includes('This page could not be opened')")
    visit.context.close()


def test_resources_are_names_and_never_paths(run):
    resources = RunResources(run)
    for name in (
        "web/../page.html",
        "../features.json",
        "feature/-1",
        "feature/128",
        "feature/1e3",
        "table/",
        "",
        "web/",
    ):
        with pytest.raises(ArtifactError, match="hosted"):
            resources.answer(name)


def test_a_feature_over_http_is_the_packed_one_unpacked(browser, address, tmp_path, folder):
    """Two sources, one answer: what the renderer gets does not depend on the host."""
    path = write_report(folder, tmp_path / "report.html")
    visit = Visit(browser, path)
    page = visit.open("#/features/100")
    text = page.inner_text("#feature-100")
    visit.close()
    served = Visit(browser, address)
    assert served.open("#/features/100").inner_text("#feature-100") == text
    served.context.close()


def test_a_notebook_shows_the_page_in_a_sandbox(browser, tmp_path, folder):
    view = show(folder)
    cell = view._repr_html_()
    assert 'sandbox="allow-scripts"' in cell
    assert cell.index("0.861") < cell.index("<iframe")
    (tmp_path / "notebook.html").write_text(f"<!doctype html><body><h1>cell</h1>{cell}</body>", encoding="utf-8")
    visit = Visit(browser, tmp_path / "notebook.html")
    visit.page.goto(visit.path.as_uri())
    frame = visit.page.frame_locator("iframe")
    frame.locator(".overview").wait_for()
    frame.locator("nav a:has-text('Features')").click()
    row = frame.locator(".rows .row >> nth=5")
    first = row.get_attribute("data-feature")
    row.click()
    expect(frame.locator(".row.chosen")).to_have_attribute("data-feature", first)
    frame.locator(f"#feature-{first}").wait_for()
    frame.locator("body").press("j")
    frame.locator(f"#feature-{int(first) + 1}").wait_for()
    frame.locator(".feature-tabs a:has-text('Quantiles')").click()
    frame.locator(".band >> nth=0").wait_for()
    frame.locator("nav a:has-text('Tree')").click()
    frame.locator(".tree-table .row >> nth=1").wait_for()
    frame.locator("nav a:has-text('Overview')").click()
    frame.locator(".canvas[data-drawn] .main-svg >> nth=0").wait_for()
    assert visit.page.inner_text("h1") == "cell"
    assert visit.complaints == []
    assert {url.split("#")[0] for url in visit.requests} <= {visit.path.as_uri(), "about:srcdoc"}
    visit.context.close()


def test_documents_hold_what_windows_show(run):
    resources = RunResources(run)
    top = run.statistics.top
    document = int(top.document[100, 0])
    stretches = json.loads(resources.answer(f"document/{document}").body)
    start = int(top.position[100, 0] - top.peak[100, 0])
    (home,) = [s for s in stretches if s["position"] <= start < s["position"] + len(s["tokens"])]
    offset = start - home["position"]
    assert np.array_equal(home["tokens"][offset : offset + 32], top.tokens[100, 0])
