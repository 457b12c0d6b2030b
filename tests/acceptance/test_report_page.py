"""The report in a real browser: it opens from disk alone, says what it should, and nothing in a run can become code."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from dashboards.feature_contract import feature_table
from dashboards.page import render, write_report
from dashboards.run_record import load_run
from tests.browsing import Visit, expect
from tests.invented_run import HOSTILE, make_run

pytestmark = pytest.mark.browser

MEGABYTE = 1_000_000


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
        "Matryoshka BatchTopK SAE of 256 features", "0.861", "[0.852 to 0.869]", "+0.109", "97.8%", "frozen decoder",
        "not measured", "5b1f5b1f", "interp train configs/quickstart.yaml --out runs/invented",
    ):  # fmt: skip
        assert expected in text
    assert "0.861" in page.inner_text("header")


@pytest.mark.parametrize("tab", ["overview", "features", "tree", "map", "sample", "training", "provenance"])
def test_every_page_says_where_it_comes_from(visit, tab):
    page = visit.open(f"#/{tab}")
    foot = page.inner_text("footer")
    for expected in ("embedded 5b1f5b1f5b1f", "embedded, train 90ce90ce90ce", "seed 0", "interp train configs/"):
        assert expected in foot
    page.click("footer a")
    page.wait_for_function("() => document.documentElement.dataset.shown === 'provenance'")


@pytest.mark.parametrize(("tab", "figures"), [("overview", 2), ("training", 7)])
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
    told = re.compile(r"activation\s*[\d.]+\s*token id\s*\d+\s*position\s*\d+\s*document\s*\d+")
    expect(page.locator(".tip").first).to_contain_text(told)


def test_contexts_can_be_widened_one_by_one_and_all_at_once(visit):
    page = visit.open("#/features/212")
    first = page.locator(".context >> nth=0")
    before = first.locator(".tok").count()
    first.locator(".context-value").click()
    expect(first.locator(".tok")).to_have_count(32)
    assert before <= 32
    page.keyboard.press("w")
    page.wait_for_function("() => document.querySelectorAll('.context.wide').length === 8")


def test_filters_sorting_and_keys_are_in_the_address(visit):
    page = visit.open("#/features")
    page.keyboard.press("/")
    expect(page.locator(".search").first).to_be_focused()
    page.keyboard.type("density > 0.1% and level <= 3")
    page.keyboard.press("Enter")
    page.click("button.sort:has-text('density')")
    page.wait_for_function("() => location.hash.includes('sort=-density')")
    expect(page.locator(".row.head .density")).to_have_attribute("aria-sort", "descending")
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
    page.wait_for_function(f"() => location.hash.startsWith('#/features/{order[1]}/quantiles?')")
    page.keyboard.press("[")
    page.wait_for_function(f"() => location.hash.startsWith('#/features/{order[1]}?')")
    page.keyboard.press("}")
    page.wait_for_function("() => document.documentElement.dataset.shown === 'tree'")
    page.keyboard.press("2")
    page.wait_for_function(f"() => {chosen} === '{order[1]}'")


@pytest.mark.parametrize("tab", ["features", "map"])
@pytest.mark.parametrize(
    ("query", "words"),
    [("weight+%3E+3", 'no column "weight"; columns: feature, level'), ("density+%3E", 'expected a value after ">"')],
)
def test_a_filter_that_is_not_understood_says_so_and_claims_nothing(visit, tab, query, words):
    page = visit.open(f"#/{tab}?q={query}")
    told = page.locator(".count.misunderstood")
    expect(told).to_contain_text(f"Filter not understood: {words}")
    expect(page.locator("article.feature")).to_be_visible()
    assert "No feature matches" not in page.inner_text("main")
    box, frame = told.bounding_box(), page.locator(".counted").bounding_box()
    assert box["height"] <= frame["height"]
    page.fill(".search >> visible=true", "density > 0")
    expect(page.locator(".count.misunderstood")).to_have_count(0)
    page.locator(".search >> visible=true").press("Enter")
    page.keyboard.press("?")
    expect(page.locator("dialog.help")).to_be_visible()


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
    expect(page.locator(".list")).to_be_hidden()
    page.click(".drawer-toggle")
    page.click(".list .row[data-feature='5']")
    page.wait_for_selector("#feature-5")
    expect(page.locator(".list")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 800


@pytest.mark.parametrize("tab", ["features", "tree", "map"])
def test_an_open_drawer_leaves_the_tabs_in_reach_and_can_be_closed(visit, tab):
    visit.page.set_viewport_size({"width": 700, "height": 900})
    page = visit.open(f"#/{tab}")
    drawer = page.locator(".list")
    expect(drawer).to_be_visible()
    head = page.locator("header").bounding_box()
    assert drawer.bounding_box()["y"] >= head["y"] + head["height"] - 1
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(page.locator(".drawer-toggle")).to_be_focused()
    page.click(".drawer-toggle")
    expect(drawer).to_be_visible()
    page.click(".drawer-head button")
    expect(drawer).to_be_hidden()
    page.click(".drawer-toggle")
    page.click("nav[aria-label=pages] a:has-text('Overview')")
    page.wait_for_selector(".overview")


def test_the_mark_of_a_token_that_ends_within_a_ligature_has_a_width(visit):
    page = visit.open("#/features/212")
    page.wait_for_selector(".context-text")
    widths = """where => {
      const host = document.querySelector(where);
      host.replaceChildren(...[" of", "f", " f", "i"].map(text => {
        const token = document.createElement("span");
        token.className = "tok";
        token.append(text);
        return token;
      }));
      return [...host.children].map(token => token.getBoundingClientRect().width);
    }"""
    # DejaVu Sans, which the tests' Chromium comes with, draws "ff" and "fi" as one glyph.
    for where in (".context-text", "h2"):
        assert min(page.evaluate(widths, where)) > 2


def test_asking_for_a_token_leaves_every_column_in_sight(visit):
    visit.page.set_viewport_size({"width": 1400, "height": 900})
    page = visit.open("#/features?q=token+%3D+%22%E2%90%A3Lily%22&sort=-on_token")
    page.wait_for_selector(".head .token_auc")
    edges = "[...document.querySelectorAll('.head .cell')].map(cell => cell.getBoundingClientRect().right)"
    frame = page.locator(".head-frame").bounding_box()
    assert max(page.evaluate(edges)) <= frame["x"] + frame["width"]
    assert page.evaluate("[...document.querySelectorAll('.head .cell')].every(c => c.scrollWidth <= c.clientWidth)")


@pytest.mark.parametrize(
    ("address", "words"), [("nonsense", "No page at #/nonsense"), ("feature/12", "#/features/12?")]
)
def test_an_address_without_a_page_says_so(visit, address, words):
    visit.open("#/overview")
    page = visit.page
    page.evaluate("address => { location.hash = '#/' + address }", address)
    page.wait_for_selector(".nowhere")
    assert words in page.inner_text("main")
    assert page.title().endswith("no such page")
    page.click(".nowhere a >> nth=0")
    page.wait_for_selector(".nowhere", state="detached")


def test_the_header_and_the_foot_are_whole(visit):
    page = visit.open("#/overview")
    for width in (1400, 900, 700):
        page.set_viewport_size({"width": width, "height": 900})
        cut = """[...document.querySelectorAll("header .part, footer code, footer span")]
          .filter(part => part.offsetParent && part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 0)"""
        assert page.evaluate(f"{cut}.map(part => part.textContent)") == []
        about = page.locator("header .about")
        if width == 1400:
            assert page.evaluate("about => about.scrollHeight <= about.clientHeight + 1", about.element_handle())


def test_a_features_figures_stand_in_full_rows(visit):
    page = visit.open("#/features/212")
    for width in (1400, 1100, 900, 700):
        page.set_viewport_size({"width": width, "height": 900})
        tops = page.evaluate("[...document.querySelectorAll('.numbers > div')].map(d => d.offsetTop)")
        rows = [tops.count(top) for top in sorted(set(tops))]
        assert len(tops) == 6
        assert len(set(rows)) == 1


def test_contexts_are_marked_at_both_ends_where_the_text_goes_on(visit, report):
    """An invented window's peak stands where the pass puts one within a row, whose text thus goes on at both ends."""
    page = visit.open("#/features/212")
    page.wait_for_selector(".context")
    page.keyboard.press("w")
    page.wait_for_selector(".contexts.wide .context.wide")
    expect(page.locator(".context >> nth=0 >> .goes-on")).to_have_count(2)


QUERIES = [
    ("density > 0.5% and level <= 3", lambda row: row["density"] > 0.005 and row["level"] <= 3),
    ("level = 1 or level = 5", lambda row: row["level"] in (1, 5)),
    ("not (level = 1 or level = 5), density < 1%", lambda row: row["level"] in (2, 3, 4) and row["density"] < 0.01),
    ("AUC = none", lambda row: row["detection_auc"] is None),
    ("auc != none and token auc >= 0.9", lambda row: row["detection_auc"] is not None and row["token_auc"] >= 0.9),
    ('fires on = "\u2423Lily"', lambda row: " Lily" in row["fires_on"]),
    ("fires_on: LIL", lambda row: any("lil" in token.lower() for token in row["fires_on"])),
    ("#7 or 9", lambda row: row["feature"] in (7, 9)),
    ("firings < 1,000", lambda row: row["firings"] < 1000),
]


@pytest.mark.parametrize(("query", "accepts"), QUERIES, ids=[query for query, _ in QUERIES])
def test_queries_mean_what_they_say(visit, report, query, accepts):
    page = visit.open("#/features?cols=level")
    page.fill(".search", query)
    expected = [row["feature"] for row in table_rows(report.parent) if accepts(row)]
    assert 0 < len(expected) < 256
    page.wait_for_function("n => document.querySelector('.count').textContent.startsWith(n + ' of')", arg=len(expected))
    shown = page.evaluate("[...document.querySelectorAll('.rows .row')].map(row => Number(row.dataset.feature))")
    assert shown == expected[: len(shown)]


def table_rows(folder):
    """The table's rows with tokens as text, from the same contract that the page reads."""
    run = load_run(folder)
    table = feature_table(run.statistics)
    columns = {column["key"]: column["values"] for column in table["columns"]}
    columns["fires_on"] = [[run.token_texts[token] for token in ids] for ids in columns["fires_on"]]
    return [
        {"feature": feature} | {key: values[feature] for key, values in columns.items()}
        for feature in range(table["n"])
    ]


def test_a_token_leads_to_the_features_that_fire_on_it(visit, report):
    page = visit.open("#/features")
    page.keyboard.press("f")
    expect(page.get_by_label("letters of a token")).to_be_focused()
    page.keyboard.type("lily")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash.includes('sort=-on_token')")
    expect(page.locator(".search").first).to_have_value('token = "\u2423Lily"')
    run = load_run(report.parent)
    lily = run.token_texts.index(" Lily")
    found = np.argwhere(run.statistics.firing_tokens == lily)
    shares = {int(f): float(run.statistics.firing_token_share[f, rank]) for f, rank in found[::-1]}
    expect(page.locator(".rows .row")).to_have_count(len(shares))
    shown = page.evaluate("[...document.querySelectorAll('.rows .row')].map(row => Number(row.dataset.feature))")
    assert set(shown) == set(shares)
    assert [shares[f] for f in shown] == sorted(shares.values(), reverse=True)


def test_columns_can_be_chosen_and_stand_in_the_address(visit):
    page = visit.open("#/features")
    page.click("button:has-text('Columns')")
    expect(page.locator(".popover:visible")).to_have_count(1)
    page.click(".choice:has-text('bigram AUC')")
    page.wait_for_function("() => location.hash.includes('bigram_auc')")
    expect(page.locator(".row.head")).to_contain_text("bigram AUC")
    page.keyboard.press("Escape")
    expect(page.locator(".popover:visible")).to_have_count(0)
    page = visit.open("#/features?cols=level,firings")
    page.wait_for_function("() => document.querySelectorAll('.row.head .cell').length === 3")


@pytest.mark.parametrize(
    ("view", "n"), [("", 8), ("quantiles", 25), ("random", 10), ("near", 5)], ids=["top", "quantiles", "random", "near"]
)
def test_contexts_of_every_kind_are_shown(visit, view, n):
    page = visit.open(f"#/features/212/{view}" if view else "#/features/212")
    page.wait_for_function("n => document.querySelectorAll('.context').length === n", arg=n)
    values = [float(value) for value in page.locator(".context-value").all_inner_texts()]
    assert values == sorted(values, reverse=True)


def test_related_features_are_listed_and_lead_on(visit):
    page = visit.open("#/features/212/cofiring")
    page.wait_for_selector(".related tbody tr")
    assert page.locator(".related tbody tr").count() == 10
    page.click(".related .feature-link >> nth=0")
    page.wait_for_selector("#feature-213")
    page = visit.open("#/features/212/neighbours")
    expect(page.locator("#feature-212")).to_contain_text("parent fires when child fires")


def test_a_context_leads_to_its_document(visit):
    page = visit.open("#/features/212")
    page.wait_for_selector(".context")
    peak = page.inner_text(".tok.peak >> nth=0").strip()
    page.click(".context-source >> nth=0")
    page.wait_for_function("() => document.documentElement.dataset.shown === 'document'")
    assert page.inner_text(".document .tok.peak").strip() == peak
    assert page.locator(".document .tok .lit").count() > 0
    page.hover(".document .tok[data-act='0'] >> nth=0")
    expect(page.locator(".tip").first).to_contain_text(re.compile(r"activation\s*0\s*token id"))
    page.hover(".document .tok:not([data-act]) >> nth=0")
    expect(page.locator(".tip").first).to_contain_text("not stored")
    assert re.search(r"[\d,]+ tokens stored, in \d+ stretch", page.inner_text(".document"))


def test_the_tree_opens_from_parents_to_children(visit, report):
    s = load_run(report.parent).statistics
    page = visit.open("#/tree")
    page.wait_for_selector(".row[aria-expanded='false']")
    parent = int(page.get_attribute(".row[aria-expanded] >> nth=0", "data-feature"))
    page.click(f".row[data-feature='{parent}'] .twist")
    page.wait_for_function(f"() => location.hash.includes('open={parent}')")
    page.wait_for_selector(".row[aria-level='2']")
    children = page.evaluate(
        "[...document.querySelectorAll('.row[aria-level=\"2\"]')].map(r => Number(r.dataset.feature))"
    )
    assert set(children) == set(np.flatnonzero(s.parents[:, 0] == parent).tolist())
    page.click(f".row[data-feature='{children[0]}']")
    page.wait_for_selector(f"#feature-{children[0]}")
    assert f"#{parent}" in page.inner_text(f"#feature-{children[0]} .crumb")
    page.keyboard.press("k")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"() => !location.hash.includes('open={parent}')")


def test_the_map_shows_living_features_and_leads_to_them(visit, report):
    run = load_run(report.parent)
    page = visit.open("#/map/7?q=level+%3D+1")
    page.wait_for_selector("#feature-7")
    assert "keeps 21.0% among the ten nearest points" in page.inner_text(".explained")
    alive = int(np.isfinite(run.layout.x).sum())
    assert f"{alive} features that fire" in page.inner_text(".explained")
    x, y = page.evaluate(
        "() => { const box = document.querySelector('canvas').getBoundingClientRect(); return [box.x, box.y]; }"
    )
    middle = page.evaluate(
        "() => { const c = document.querySelector('canvas'); return [c.clientWidth, c.clientHeight]; }"
    )
    other = int(np.flatnonzero(np.isfinite(run.layout.x) & (run.statistics.level == 1))[0])
    page = visit.open(f"#/map/7?zoom={run.layout.x[other]},{run.layout.y[other]},40")
    page.mouse.move(x + middle[0] / 2, y + middle[1] / 2)
    page.wait_for_function(
        "id => document.querySelector('.tip:not([hidden])')?.textContent.includes('#' + id)", arg=other
    )
    page.mouse.click(x + middle[0] / 2, y + middle[1] / 2)
    page.wait_for_selector(f"#feature-{other}")


def test_shares_are_decimals_and_intervals_are_written_alike(browser, report, tmp_path):
    run = load_run(report.parent)
    density, interval = run.statistics.density.copy(), run.statistics.density_interval.copy()
    density[:3], interval[:3] = (5e-6, 0.00042, 0.0231), ((1e-6, 9e-6), (0.0004, 0.00045), (0.0218, 0.0244))
    path = tmp_path / "shares.html"
    statistics = replace(run.statistics, density=density, density_interval=interval)
    path.write_text(render(replace(run, statistics=statistics)), encoding="utf-8")
    visit = Visit(browser, path)
    for feature, words in enumerate(
        ("0.00050%\ndensity (0.00010 to 0.00090%)", "0.042%\ndensity (0.040 to 0.045%)",
         "2.31%\ndensity (2.18 to 2.44%)")
    ):  # fmt: skip
        page = visit.open(f"#/features/{feature}")
        page.wait_for_selector(f"#feature-{feature}")
        assert words in page.inner_text(".numbers")
    visit.close()


def test_the_overview_says_on_which_text_and_what_missed_its_aim(browser, report, tmp_path):
    run = load_run(report.parent)
    whole = {
        "fvu": 0.1, "seed": 0, "hook": "h", "wanted_l0": 64.0, "prefixes": [], "null_arms": {},
        "ce": dict.fromkeys(("clean", "zero", "mean", "sae", "delta", "kl"), 1.0)
        | {"n_predicted": 5, "delta_interval": None, "recovered_vs_zero": None, "recovered_vs_mean": None},
    }  # fmt: skip
    other = {"dataset": "/texts/books.jsonl", "content_hash": "ab12" * 16, "split": {"used": "all"}}
    path = tmp_path / "other.html"
    changed = replace(run, evaluation=run.evaluation | whole | {"data": other})
    path.write_text(render(changed), encoding="utf-8")
    visit = Visit(browser, path)
    page = visit.open("#/overview")
    told = page.inner_text("main")
    assert "412 documents: books.jsonl, all ab12ab12ab12. " in told
    assert "The evaluation was not made on the run's held-out split: books.jsonl, all ab12ab12ab12." in told
    assert "L0 is 32.1; training aimed at 64" in told
    assert "aimed at 64" in page.get_attribute("header .key:has-text('L0')", "title")
    assert "list of features: the run's training text\t200,000\t" in told
    visit.close()


def test_what_was_not_measured_says_so(browser, report, tmp_path):
    """A dictionary without levels, map, co-firing, AUCs or text of its tokens."""
    run = load_run(report.parent)
    unknown = np.full(256, np.nan)
    statistics = replace(
        run.statistics, level=np.ones(256, dtype=np.int64), n_coactivation_tokens=0, token_auc=unknown,
        bigram_auc=unknown, detection_auc=unknown,
    )  # fmt: skip
    path = tmp_path / "bare.html"
    bare = replace(run, statistics=statistics, layout=None, token_texts=None, evaluation=None, metrics=[])
    path.write_text(render(bare, window_budget=1), encoding="utf-8")
    visit = Visit(browser, path)
    assert visit.open("#/overview").locator("nav[aria-label=pages] a").all_inner_texts() == [
        "Overview", "Features", "Map", "Sample of 30", "Training", "Provenance",
    ]  # fmt: skip
    for fragment, words in (
        ("features/212", "not measured\ndetection AUC"), ("features/212/random", "Not measured"),
        ("features/212/quantiles", "Not measured"), ("features/212/near", "Not measured"),
        ("features/212/cofiring", "Not measured"), ("map", "map was not computed"), ("training", "Not measured"),
        ("sample", "Detection AUC: not measured"), ("overview", "Not measured: the run has no evaluation"),
        ("features/9999", "There is no feature 9999"), ("document/99999", "Nothing of this document is stored"),
    ):  # fmt: skip
        assert words in visit.open(f"#/{fragment}").inner_text("main")
    visit.close()


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        ("map/9999", "There is no feature 9999"), ("tree/9999", "There is no feature 9999"),
        ("document/7?feature=x", "Document 7"), ("document/7?feature=1.5&at=y", "Document 7"),
        ("document", "names no document"),
    ],
)  # fmt: skip
def test_an_address_that_leads_nowhere_leaves_a_living_page(visit, fragment, words):
    page = visit.open(f"#/{fragment}")
    assert words in page.inner_text("main")
    page.keyboard.press("1")
    page.wait_for_selector(".overview")


def test_bands_without_a_firing_say_why_and_related_features_say_on_what(browser, report, tmp_path):
    run = load_run(report.parent)
    s = run.statistics
    feature = int(np.argmax(s.density))
    quantile = s.quantile.in_memory()
    quantile.values[feature, :5] = 0
    histogram, partners = s.histogram.copy(), s.partners.copy()
    histogram[feature, 0], partners[feature] = 3, -1
    changed = replace(s, quantile=quantile, histogram=histogram, partners=partners, n_coactivation_tokens=50_000)
    path = tmp_path / "ties.html"
    path.write_text(render(replace(run, statistics=changed)), encoding="utf-8")
    visit = Visit(browser, path)
    for view, words in (
        ("near", "No firing falls in the weakest band (ties or too few firings)"),
        ("quantiles", "No firing falls in this band"), ("random", "firings drawn uniformly"),
        ("cofiring", "on at least 5 of the 50,000 counted tokens"),
    ):  # fmt: skip
        page = visit.open(f"#/features/{feature}/{view}")
        page.wait_for_function("words => document.querySelector('main').innerText.includes(words)", arg=words)
    page = visit.open(f"#/features/{feature}/quantiles")
    page.wait_for_selector(".subhead:has-text('firings in 5 bands of equal count')")
    assert re.fullmatch(r"3 tokens up to [\d.]+", page.text_content(".histogram title >> nth=0"))
    page = visit.open(f"#/features/{(feature + 1) % 256}/cofiring")
    page.wait_for_selector(".subhead:has-text('50,000 of 200,000 tokens counted')")
    visit.close()


def test_children_stand_on_the_page_with_both_conditionals(visit, report):
    s = load_run(report.parent).statistics
    parent = int(np.argmax((s.children >= 0).sum(1)))
    page = visit.open(f"#/features/{parent}/neighbours")
    page.wait_for_selector(".related")
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator(".related tr").all()]
    children = [row for row in rows if "child" in row]
    assert [int(re.search(r"#(\d+)", row[1])[1]) for row in children] == [
        child for child in s.children[parent].tolist() if child >= 0
    ]
    assert {tuple(cell.strip() for cell in row[3:]) for row in children} == {("0.41", "83.0%", "7.00%")}


def test_keys_leave_choices_and_other_pages_alone(visit):
    page = visit.open("#/features/3")
    prevented = "([key, query]) => !document.querySelector(query).dispatchEvent("
    prevented += "new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }))"
    assert page.evaluate(prevented, ["j", "body"])
    assert not page.evaluate(prevented, ["ArrowRight", "body"])
    assert not page.evaluate(prevented, ["0", "body"])
    page = visit.open("#/tree")
    page.wait_for_selector(".tree-table .row[data-feature]")
    assert page.evaluate(prevented, ["ArrowRight", "body"])
    assert not page.evaluate(prevented, ["ArrowRight", "select"])


def test_the_peak_is_found_in_the_right_piece_of_a_document(browser, report, tmp_path):
    """Two windows at one position of one document: pieces of it that count their positions anew."""
    run = load_run(report.parent)
    top = run.statistics.top.in_memory()
    top.document[212, :2], top.position[212, :2] = 399, 500
    path = tmp_path / "pieces.html"
    path.write_text(render(replace(run, statistics=replace(run.statistics, top=top))), encoding="utf-8")
    visit = Visit(browser, path)
    for rank in (0, 1):
        page = visit.open("#/features/212")
        page.wait_for_selector(".context")
        row = page.locator(".context").nth(rank)
        row.locator(".context-value").click()
        expect(row).to_have_class("context wide")
        shown, lit = row.locator(".tok").all_inner_texts(), row.locator(".lit").all_inner_texts()
        row.locator(".context-source").click()
        # The page of documents holds the last one until it shows this.
        page.wait_for_function("() => document.documentElement.dataset.shown === 'document'")
        home = page.locator(".stretch", has=page.locator(".tok.peak"))
        assert page.locator(".document .tok.peak").count() == 1
        assert "".join(shown) in "".join(home.locator(".tok").all_inner_texts())
        assert home.locator(".lit").all_inner_texts() == lit
    visit.close()


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "<img src=x onerror=window.injected=2>"
    return write_report(make_run(folder, d_sae=128, hostile=True), tmp_path_factory.mktemp("pages") / "hostile.html")


def test_hostile_tokens_stay_text(browser, hostile_report):
    visit = Visit(browser, hostile_report)
    views = ("features/100/quantiles", "features/100/cofiring", "tree/100", "map/100", "document/7?feature=100")
    for fragment in ("#/overview", *(f"#/{view}" for view in views), "#/sample", "#/training", "#/provenance"):
        page = visit.open(fragment)
        page.wait_for_load_state("load")
    page = visit.open("#/features?q=%22%3Cimg+src%3Dx+onerror%3Dwindow.injected%3D3%3E%22+%3E+1")
    assert "<img" in page.inner_text(".count")
    page = visit.open("#/features")
    page.keyboard.press("f")
    expect(page.get_by_label("letters of a token")).to_be_focused()
    assert page.locator(".token-row").count() > 20
    page.keyboard.type("<BR")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash.includes('on_token')")
    expect(page.locator(".search").first).to_have_value('token = "<br>"')
    expect(page.locator(".rows .row")).not_to_have_count(0)
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
