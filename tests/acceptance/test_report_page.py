"""The report in a real browser: it opens from disk alone, says what it should, and nothing in a run can become code."""

import json
import re
import shutil

import pytest

from dashboards.page import write_report
from tests.invented_run import HOSTILE, make_run

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; install the package chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A page opened from disk, with everything that it asked for and complained about."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(viewport={"width": 1440, "height": 860}, **options)
        self.page = self.context.new_page()
        self.path, self.requests, self.complaints = path, [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type != "log" else None)

    def open(self, fragment):
        tab = re.match(r"#/(\w+)", fragment)[1]
        if self.requests:
            self.page.evaluate("fragment => { location.hash = fragment }", fragment)
        else:
            self.page.goto(self.path.as_uri() + fragment)
        self.page.wait_for_function("tab => document.documentElement.dataset.shown === tab", arg=tab)
        return self.page

    def close(self):
        self.context.close()
        assert self.complaints == []
        assert {url.split("#")[0] for url in self.requests} == {self.path.as_uri()}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "invented", d_sae=256))


@pytest.fixture
def visit(browser, report):
    visit = Visit(browser, report, color_scheme="light")
    yield visit
    visit.close()


def test_the_overview_says_what_it_is_how_good_and_how_to_repeat_it(visit):
    page = visit.open("#/overview")
    text = page.inner_text("main")
    for expected in (
        "Matryoshka BatchTopK SAE of 256 features", "0.861", "[0.852–0.869]", "+0.109", "97.8%", "frozen decoder",
        "not measured", "5b1f5b1f", "interp train configs/quickstart.yaml --out runs/invented",
    ):  # fmt: skip
        assert expected in text
    assert "0.861" in page.inner_text("header")


@pytest.mark.parametrize(("tab", "figures"), [("overview", 2), ("training", 6)])
def test_figures_are_drawn_and_follow_the_theme(visit, tab, figures):
    page = visit.open(f"#/{tab}")
    page.wait_for_function(
        "n => document.querySelectorAll('.canvas[data-drawn=light] .main-svg').length >= n", arg=figures
    )
    page.keyboard.press("t")
    page.wait_for_function("n => document.querySelectorAll('.canvas[data-drawn=dark]').length === n", arg=figures)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator(".modebar a, a[href^=http]").count() == 0


def test_a_feature_has_an_address_and_shows_its_numbers_and_contexts(visit):
    page = visit.open("#/features/212")
    page.wait_for_selector("#feature-212 .context")
    assert "Feature 212" in page.inner_text("h2")
    assert page.locator("#feature-212 .context").count() == 8
    assert page.locator("#feature-212 .histogram rect").count() > 3
    assert (
        page.locator("#feature-212 .effect-bar.up").count()
        == page.locator("#feature-212 .effect-bar.down").count()
        == 7
    )
    assert page.locator("#feature-212 .tok.peak").count() == 8
    page.hover("#feature-212 .tok.peak >> nth=0")
    assert re.search(r"activation\s*[\d.]+\s*token id\s*\d+\s*position\s*\d+\s*document\s*\d+", page.inner_text(".tip"))


def test_contexts_can_be_widened_one_by_one_and_all_at_once(visit):
    page = visit.open("#/features/212")
    first = page.locator(".context >> nth=0")
    before = first.locator(".tok").count()
    first.locator(".context-value").click()
    assert first.locator(".tok").count() == 32 >= before
    page.keyboard.press("w")
    page.wait_for_function("() => document.querySelectorAll('.context.wide').length === 8")


def test_filters_sorting_and_keys_are_in_the_address(visit):
    page = visit.open("#/features")
    page.keyboard.press("/")
    page.keyboard.type("density > 0.1% and level <= 3")
    page.keyboard.press("Enter")
    page.click("button.sort:has-text('density')")
    page.wait_for_function("() => location.hash.includes('sort=-density')")
    shown = page.evaluate(
        "[...document.querySelectorAll('.rows .row')].map(row => "
        "[row.querySelector('.level span').textContent, row.querySelector('.density').textContent])"
    )
    densities = [float(density.rstrip("%")) for _, density in shown]
    assert densities == sorted(densities, reverse=True)
    assert min(densities) >= 0.1
    assert {level for level, _ in shown} <= {"1", "2", "3"}
    order = page.evaluate("[...document.querySelectorAll('.rows .row')].map(row => row.dataset.feature)")
    chosen = "document.querySelector('.row.chosen')?.dataset.feature"
    page.keyboard.press("k")
    page.wait_for_function(f"() => {chosen} === '{order[0]}'")
    page.keyboard.press("j")
    page.wait_for_function(
        f"() => {chosen} === '{order[1]}' && location.hash.startsWith('#/features/{order[1]}?q=density')"
    )
    page.keyboard.press("]")
    page.wait_for_function("() => document.documentElement.dataset.shown === 'sample'")
    page.keyboard.press("[")
    page.wait_for_function(f"() => {chosen} === '{order[1]}'")


def test_a_filter_that_is_not_understood_says_so(visit):
    page = visit.open("#/features?q=weight+%3E+3")
    assert 'no column "weight"' in page.inner_text(".count")
    page.keyboard.press("?")
    assert page.is_visible("dialog.help")


def test_all_thirty_of_the_sample_are_shown(visit):
    page = visit.open("#/sample")
    page.wait_for_selector("article.feature")
    ids = page.evaluate("[...document.querySelectorAll('article.feature')].map(card => card.id)")
    assert len(set(ids)) == 30
    assert "30 features drawn with seed 0" in page.inner_text(".explained")
    assert all(page.locator(f"#{card} .context").count() > 0 for card in ids)


def test_dark_systems_get_a_dark_page(browser, report):
    visit = Visit(browser, report, color_scheme="dark")
    page = visit.open("#/overview")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 28)"
    visit.close()


def test_on_a_narrow_screen_the_list_is_a_drawer(visit):
    visit.page.set_viewport_size({"width": 800, "height": 700})
    page = visit.open("#/features/3")
    assert not page.is_visible(".list")
    page.click(".drawer-toggle")
    page.click(".list .row[data-feature='5']")
    page.wait_for_selector("#feature-5")
    assert not page.is_visible(".list")
    assert page.evaluate("document.documentElement.scrollWidth") <= 800


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "<img src=x onerror=window.injected=2>"
    return write_report(make_run(folder, d_sae=128, hostile=True), tmp_path_factory.mktemp("pages") / "hostile.html")


def test_hostile_tokens_stay_text(browser, hostile_report):
    visit = Visit(browser, hostile_report)
    for fragment in ("#/overview", "#/features/100", "#/sample", "#/training", "#/provenance"):
        page = visit.open(fragment)
        page.wait_for_load_state("load")
    page = visit.open("#/sample")
    page.wait_for_function("() => document.querySelectorAll('article.feature').length === 30")
    page.keyboard.press("w")
    page.wait_for_function("() => document.querySelectorAll('.context.wide').length > 100")
    shown = page.inner_text(".object")
    for token in ("</script><script>window.injected=1</script>", "<br>", "&lt;", "<img src=x onerror=", "${summary}"):
        assert token in shown
    for name in ("⟨U+2028⟩", "⟨U+202E⟩", "⟨U+200F⟩", "⟨U+0000⟩", "⟨U+001B⟩", "⟨U+FEFF⟩"):
        assert name in shown
    assert not re.search("[\u2028\u2029\u202e\u200f\ufeff\x00-\x08]", shown)
    assert "x" * 500 not in shown
    assert page.evaluate("window.injected") is None
    assert page.locator("#page img, #page br, #page script").count() == 0
    widths = page.evaluate(
        "[document.querySelector('.object').scrollWidth, document.querySelector('.object').clientWidth]"
    )
    assert widths[0] <= widths[1]
    visit.close()


def test_hostile_tokens_reach_the_page_whole(hostile_report):
    page = hostile_report.read_text(encoding="utf-8")
    assert page.lower().count("</script>") == page.lower().count("<script")
    assert all(token not in page for token in HOSTILE if token.startswith("</script>"))
    assert json.loads(re.search(r'id="summary">(.*?)</script>', page)[1])["run"]["name"].startswith("<img")


def test_four_thousand_features_fit_and_only_rows_in_sight_exist(browser, tmp_path):
    path = write_report(make_run(tmp_path / "large", d_sae=4096, n_examples=20))
    assert path.stat().st_size < 15 * MEGABYTE
    visit = Visit(browser, path)
    page = visit.open("#/features")
    page.evaluate("document.querySelector('.scroller').scrollTop = 4000 * 29")
    page.wait_for_selector(".row[data-feature='4005']")
    assert page.locator(".rows .row").count() < 80
    page.click(".row[data-feature='4005']")
    page.wait_for_selector("#feature-4005")
    visit.close()
