"""The page of the study on known features draws itself in a real browser, from its one file."""

from dashboards.synthetic_view import PANELS, synthetic_page
from tests.browsing import Visit, expect, launched_browser

FIGURES = {"mean": 0.5, "sd": 0.1, "seeds": [0.4, 0.5, 0.6]}


def _result():
    arms = {arm: dict.fromkeys([name for name, _ in PANELS] + ["l0"], FIGURES) for arm in ("matryoshka", "untrained")}
    data = {"n_features": 1024, "width": 128, "l0": 12.0, "n_trees": 3}
    config = {"data": data, "d_sae": 256, "eval_l0": 7.0, "seeds": 3, "steps": 100, "batch_size": 10}
    orders = {"f1": {"order": ["matryoshka", "untrained"], "seeds_held": [0], "seeds": 3}}
    return {"arms": arms, "config": config, "published": {"matryoshka": {"f1": 0.879}}, "orders": orders}


def test_every_point_is_drawn_and_the_page_asks_for_itself_alone(tmp_path):
    path = tmp_path / "synthetic.html"
    path.write_text(synthetic_page(_result()), encoding="utf-8")
    with launched_browser() as browser:
        visit = Visit(browser, path)
        visit.page.goto(visit.address)
        # Two arms, each with three seeds and a mean per panel, and one published figure.
        expect(visit.page.locator("path.point")).to_have_count(2 * 4 * len(PANELS) + 1)
        assert visit.page.locator("table").count() == 2
        visit.close()
