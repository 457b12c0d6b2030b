"""The page of a run in training, in a real browser: it follows the run, holds still under the reader, and then ends."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from dashboards.watch_page import PAGE, PageWriter
from interp.cli import main
from interp.runs import RunFolder, RunManifest
from saes.train_config import TrainConfig
from tests.browsing import Visit, expect

pytestmark = pytest.mark.browser


def _rows(first, last, **more):
    return [
        {"step": step, "n_tokens": 2048 * step, "loss": 400.0 / step, "explained_variance": 1 - 1 / step, "l0": 32.0,
         "grad_norm": 20.0, "dead": 3, "tokens_per_s": 900.0, "seconds_harvest": 0.5, "seconds_shuffle": 0.1,
         "seconds_update": 1.0, "loss_prefix_64": 9.0 / step, "loss_prefix_128": 8.0 / step, **more}
        for step in range(first, last + 1)
    ]  # fmt: skip


def _add(run, rows):
    with run.metrics_path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _begin(folder, n_rows=5):
    config = TrainConfig(hook="blocks.0.hook_resid_post", tokens=2048 * 50, out=folder)
    run = RunFolder.begin(folder, config, RunManifest.begin("sae", seed=0))
    _add(run, _rows(1, n_rows))
    return run


def _visit(browser, path, *, holding=False, **options):
    """holding: the page's clock stands still, so that it does not load itself anew, until it is moved."""
    visit = Visit(browser, path, **options)
    if holding:
        now = datetime.now(UTC)
        visit.page.clock.install(time=now)
        visit.page.clock.pause_at(now + timedelta(seconds=1))
    visit.page.goto(visit.address)
    return visit


def _finish(run):
    run.write_manifest(run.manifest().model_copy(update={"status": "finished"}))


def test_the_page_follows_the_run_and_ends_with_it(browser, tmp_path):
    run = _begin(tmp_path / "run")
    writer = PageWriter(run.path, every_s=0.5)
    writer.write()
    visit = _visit(browser, writer.path, holding=True)
    page = visit.page
    assert "running · step 5 of 50" in page.inner_text(".state")
    assert "No trouble seen so far" in page.inner_text(".alerts")
    page.evaluate("scrollTo(0, 100)")
    _add(run, _rows(6, 12, explained_variance=-2.0))
    writer.write()
    page.clock.resume()
    page.wait_for_function("() => document.querySelector('.state').innerText.includes('step 12')")
    page.wait_for_function("() => scrollY === 100")
    for told in ("Explained variance is -2.000", "since step 6", "--schedule.lr"):
        expect(page.locator(".alert.critical").first).to_contain_text(told)
    _finish(run)
    writer.write()
    page.wait_for_function("() => document.querySelector('.state').innerText.includes('finished')")
    loaded = len(visit.requests)
    page.wait_for_timeout(1200)
    assert len(visit.requests) == loaded
    visit.close()


def test_pointing_at_a_curve_reads_all_at_that_step_and_holds_the_page(browser, tmp_path):
    run = _begin(tmp_path / "run", n_rows=40)
    writer = PageWriter(run.path, every_s=0.5)
    writer.write()
    visit = _visit(browser, writer.path, holding=True)
    page, caption = visit.page, visit.page.locator(".chart[data-name=l0] figcaption")
    page.hover(".chart[data-name=variance] svg", position={"x": 120, "y": 60})
    expect(caption).to_contain_text("step ")
    step = int(caption.inner_text().split("step ")[1].split(",")[0])
    assert 1 < step < 40
    shown = float(page.inner_text(".chart[data-name=variance] figcaption b"))
    assert shown == pytest.approx(1 - 1 / step, abs=6e-4)
    # Long past the half second after which a page that nobody reads loads itself anew.
    page.clock.run_for(5000)
    assert len(visit.requests) == 1
    page.focus(".charts")
    page.keyboard.press("ArrowRight")
    expect(caption).to_contain_text(f"step {step + 1},")
    page.clock.resume()
    _finish(run)
    writer.write()
    page.mouse.move(5, 5)
    page.wait_for_function("() => document.querySelector('.state').innerText.includes('finished')")
    visit.close()


def test_a_curve_that_is_cut_off_says_where_and_how_low_it_goes(browser, tmp_path):
    run = _begin(tmp_path / "run", n_rows=20)
    writer = PageWriter(run.path)
    writer.write()
    visit = _visit(browser, writer.path)
    told = visit.page.locator(".chart[data-name=variance] .cut")
    expect(told).to_have_count(0)
    _add(run, _rows(21, 22, explained_variance=-12.3))
    writer.write()
    visit.page.reload()
    expect(told).to_have_text("cut off below \u22121; lowest \u221212.3")
    visit.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1320])
def test_the_page_fits_and_follows_the_system(browser, tmp_path, scheme, width):
    run = _begin(tmp_path / "run", n_rows=40)
    _finish(run)
    assert main(["watch", str(run.path), "--once"]) == 0
    visit = _visit(browser, run.path / PAGE, color_scheme=scheme)
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".chart path.curve, .chart path.area").count() >= 10
    drawn = page.evaluate("[...document.querySelectorAll('.chart')].every(c => c.scrollWidth <= c.clientWidth)")
    assert drawn
    visit.close()


def test_a_sweep_leads_to_its_runs_and_back(browser, tmp_path):
    for name in ("k16", "k32"):
        _finish(_begin(tmp_path / "sweep" / "runs" / name, n_rows=30))
    assert main(["watch", str(tmp_path / "sweep")]) == 0
    page = browser.new_page()
    page.goto((tmp_path / "sweep" / PAGE).as_uri())
    assert page.locator(".runs tbody tr").count() == 2
    page.click("text=k32")
    page.wait_for_selector(".charts")
    expect(page.locator("h1")).to_have_text("k32")
    page.click("text=all runs")
    page.wait_for_selector(".runs")
    page.close()


def test_the_command_prints_what_it_saw(tmp_path, capsys):
    run = _begin(tmp_path / "run", n_rows=3)
    _add(run, _rows(4, 20, explained_variance=-0.5))
    assert main(["watch", str(run.path), "--once", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"][0]["step"] == 20
    assert [alert["name"] for alert in told["alerts"]] == ["variance"]
    assert main(["watch", str(tmp_path / "nothing"), "--once"]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["watch", str(run.metrics_path), "--once"]) == 2
