"""Heat maps keep places apart, are symmetric about zero, and tell exact values; the page is whole and safe."""

import numpy as np
import pytest

from dashboards.effects_page import effects_page
from dashboards.effects_view import effect_bars, effect_heatmap, effects_figure
from dashboards.show import show
from dashboards.theme import DARK, LIGHT
from interp.effects import Axis, EffectGrid
from interp.errors import ShapeError


def made_grid(*sizes: int, interval: bool = True, tokens: tuple[str, ...] | None = None) -> EffectGrid:
    names = ("component", "layer", "position")[-len(sizes) :]
    axes = [Axis(name, tuple(map(str, range(size)))) for name, size in zip(names, sizes, strict=True)]
    if tokens is not None:
        axes[-1] = Axis("position", tokens)
    effect = np.random.default_rng(0).normal(size=sizes) - 0.5
    between = np.stack([effect - 0.1, effect + 0.2]) if interval else None
    reference = {"corrupt": -1.0, "clean": 2.0}
    return EffectGrid(tuple(axes), effect, between, "activation patching, denoising", "logit difference (logits)",
                      "share of the clean-corrupt difference", 5, reference, 1)  # fmt: skip


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("sizes", [(4, 6), (3, 4, 6), (3, 4, 20)])
def test_a_heat_map_is_symmetric_and_zero_has_no_colour(theme, sizes) -> None:
    grid = made_grid(*sizes)
    figure = effect_heatmap(grid, theme)
    limit = np.abs(grid.effect).max()
    assert len(figure.data) == (sizes[0] if len(sizes) == 3 else 1)
    for panel, heat in enumerate(figure.data):
        assert heat.zmax == -heat.zmin == limit
        assert heat.colorscale[1] == (0.5, theme.panel)
        np.testing.assert_array_equal(heat.z, grid.effect.reshape(-1, *sizes[-2:])[panel])


def test_tokens_that_occur_twice_stay_apart() -> None:
    figure = effect_heatmap(made_grid(3, 4, tokens=("0 ␣the", "1 ␣cat", "2 ␣the", "3 ␣cat")))
    assert figure.data[0].x is None
    assert list(figure.layout.xaxis.ticktext) == ["0 ␣the", "1 ␣cat", "2 ␣the", "3 ␣cat"]
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2, 3]


def test_hover_tells_the_value_and_its_interval() -> None:
    grid = made_grid(2, 3)
    text = effect_heatmap(grid).data[0].customdata[1][2]
    low, high = grid.interval[:, 1, 2]
    assert text == f"layer 1, position 2<br>{grid.effect[1, 2]:+.4g} (95% interval {low:+.4g} to {high:+.4g})"
    assert "interval" not in effect_heatmap(made_grid(2, 3, interval=False)).data[0].customdata[1][2]


def test_bars_have_whiskers_of_no_negative_length() -> None:
    grid = made_grid(5)
    bars = effect_bars(grid).data[0]
    np.testing.assert_array_equal(bars.x, grid.effect)
    np.testing.assert_allclose(bars.error_x.array, 0.2)
    np.testing.assert_allclose(bars.error_x.arrayminus, 0.1)
    off = EffectGrid(grid.axes, grid.effect, np.stack([grid.effect + 0.1, grid.effect + 0.2]), *("",) * 3, 5)
    assert min(effect_bars(off).data[0].error_x.arrayminus) == 0
    assert effects_figure(grid).data[0].type == "bar"
    assert effects_figure(made_grid(2, 2)).data[0].type == "heatmap"


def test_a_grid_of_four_axes_has_no_heat_map() -> None:
    four = EffectGrid(tuple(Axis(name, ("0",)) for name in "abcd"), np.zeros((1, 1, 1, 1)), None, "", "", "", 1)
    with pytest.raises(ShapeError, match="4 axes"):
        effects_figure(four)


def test_the_page_needs_nothing_from_elsewhere_and_tokens_cannot_break_it() -> None:
    grid = made_grid(2, 2, tokens=("0 </script><b>", "1 NaN"))
    effect = grid.effect.copy()
    effect[0, 0] = np.nan
    broken = EffectGrid(grid.axes, effect, None, grid.method, grid.outcome, grid.units, 1)
    page = effects_page({"a <b>": grid, "b": broken}, title="T", told="told", prompts=["<i>x"])
    assert "a &lt;b&gt;" in page
    assert "</script><b>" not in page
    assert "&lt;i&gt;x" in page
    assert "1 NaN" in page
    assert 'src="http' not in page
    assert "Pairs whose own clean-corrupt difference is near zero: 1." in page
    assert "No interval" in page


def test_a_narrow_grid_has_room_for_its_labels_and_for_buttons() -> None:
    """Where labels need more than a figure has beside its cells, Plotly writes the axis's title over them."""
    labels = tuple(f"blocks.{layer}.attn head {head}" for layer in range(3) for head in range(8))
    axes = (Axis("component", labels), Axis("position", ("all",)))
    layout = effect_heatmap(EffectGrid(axes, np.zeros((24, 1)), None, "", "", "", 1)).layout
    assert layout.width >= 7 * len(labels[0]) + 64 + 90
    assert layout.width >= 440
    assert layout.margin.t >= 30
    assert effect_heatmap(made_grid(3, 4, 2)).layout.margin.t >= 30 + 20
    assert layout.template.layout.yaxis.automargin
    assert layout.template.layout.modebar.bgcolor == "rgba(0,0,0,0)"


def test_panels_whose_tokens_would_touch_stand_below_each_other() -> None:
    domains = {tuple(effect_heatmap(made_grid(3, 4, 13)).layout[axis].domain) for axis in ("xaxis", "xaxis2", "xaxis3")}
    assert domains == {(0.0, 1.0)}


def test_a_notebook_shows_a_grid() -> None:
    assert show(made_grid(2, 3)).data[0].type == "heatmap"
