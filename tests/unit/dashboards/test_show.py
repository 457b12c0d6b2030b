"""What a notebook shows is what the result is; what it cannot show it says, with what it can."""

import numpy as np
import pytest

from dashboards.effects_view import effects_figure
from dashboards.lens_page import lens_figures
from dashboards.page import write_report
from dashboards.show import LensView, RunView, show
from dashboards.shown import SHOWN
from dashboards.theme import DARK, LIGHT
from dashboards.titles import titled
from dashboards.watch_run import what_it_is
from interp.effects import Axis, EffectGrid
from interp.errors import ArtifactError, ConfigError
from interp.lenses.config import LensConfig
from interp.lenses.divergence import LayerDivergence, LensDivergence
from interp.lenses.folder import LensFolder
from interp.lenses.grid import LensGrid
from interp.runs import RunFolder, RunManifest
from saes.scores import Evaluation, PrefixScore, Sinks
from tests.invented_run import make_run

OTHERS = {
    "pretrain": "interp watch",
    "activations": "interp train --activations",
    "codebook": "interp codebook inspect",
    "lens": "interp lens report",
}


def _folder(path, kind):
    return RunFolder.begin(path / "a run", LensConfig(lens="tuned"), RunManifest.begin(kind, seed=0))


def _grid(method="logit lens"):
    top, hooks = np.zeros((2, 3, 1, 1), dtype=int), ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
    return LensGrid(method, hooks, (0, 0, 0), top, np.full(top.shape, 0.5), {0: "a"})


def _effects(method, labels=("0", "1")):
    return EffectGrid((Axis("layer", labels), Axis("position", ("all",))), np.zeros((len(labels), 1)), None, method,
                      "logit difference", "share of the clean-corrupt difference", 5)  # fmt: skip


def _evaluation(n_prefixes):
    prefixes = tuple(PrefixScore(4 << i, 0.5, 2.0, 0.1, 0.1) for i in range(n_prefixes))
    return Evaluation(1000, 5, 0.5, None, 0.5, 2.0, 0.0, 0.0, None, prefixes, Sinks(10.0, 1.0, 0, 0.5, 0.5), 0, "h", {},
                      "ab", {})  # fmt: skip


def _title(figure):
    return figure.layout.title.text, figure.layout.title.subtitle.text


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind != "lens"])
def test_a_run_that_holds_no_sae_is_not_shown_as_one(tmp_path, kind):
    with pytest.raises(ArtifactError, match=f"holds no SAE but .*{OTHERS[kind]}"):
        show(_folder(tmp_path, kind))


@pytest.mark.parametrize("kind", OTHERS)
def test_no_page_of_an_sae_is_written_of_another_run(tmp_path, kind):
    run = _folder(tmp_path, kind)
    with pytest.raises(ArtifactError, match=OTHERS[kind]):
        write_report(run.path)
    assert not run.report_path.exists()


def test_a_lens_run_is_shown_as_its_own_page(tmp_path):
    folder = LensFolder(_folder(tmp_path, "lens"))
    LensDivergence((LayerDivergence("blocks.0.hook_resid_post", 2.0, None, 1.0, None, -1.0, None),), 100, 5).save(
        folder.divergence_path
    )
    _grid("tuned lens").save(folder.grid_path)
    for given in (folder, folder.run, folder.run.path, str(folder.run.path)):
        view = show(given)
        assert isinstance(view, LensView)
        assert list(view.figures) == ["grid-0", "divergence"]
    text = view._repr_html_()
    assert "a run: tuned lens" in text
    assert "sparse autoencoder" not in text.split("<iframe")[0]
    assert "What each layer expects" in text


def test_an_sae_run_is_shown_as_before(tmp_path):
    view = show(make_run(tmp_path / "invented"))
    assert isinstance(view, RunView)
    assert "<iframe sandbox=" in view._repr_html_()


@pytest.mark.parametrize("nothing", [[], (), 3, {"step": 1}, [{"loss": 1.0}]])
def test_what_cannot_be_shown_is_told_what_can(nothing):
    with pytest.raises(ConfigError, match="expected the folder of an SAE's or a lens's run, rows of metrics") as told:
        show(nothing)
    assert all(name in str(told.value) for name in SHOWN)
    assert {"EffectGrid", "Disentanglement", "Evaluation", "LensGrid"} <= set(SHOWN)
    assert "\n" not in str(told.value)


def test_an_evaluation_shows_its_prefixes_or_says_that_it_has_none():
    figure = show(_evaluation(3))
    assert list(figure.data[0].x) == [4, 8, 16]
    with pytest.raises(ConfigError, match=r"0 nested prefixes.*folder"):
        show(_evaluation(0))


def test_grids_of_different_lenses_do_not_look_alike():
    titles = [_title(show(_grid(method))) for method in ("logit lens", "tuned lens", "linear hidden")]
    assert [title for title, _ in titles] == ["Logit lens", "Tuned lens", "Future Lens, linear hidden"]


def test_a_grid_of_effects_says_what_was_done_and_measured():
    title, facts = _title(show(_effects("activation patching, denoising")))
    assert title == "Activation patching, denoising"
    assert facts.replace("<br>", " ") == "logit difference, as a share of the clean-corrupt difference; 5 prompts"


def test_pages_have_headings_of_their_own():
    assert lens_figures([], [], [_grid()])["grid-0"].layout.title.text is None


def test_a_title_is_no_markup_and_breaks_within_the_figure():
    figure = show(_effects("<b>patching</b> " + "of very many things " * 8))
    assert figure.layout.title.text.startswith("&lt;b&gt;patching&lt;/b&gt;")
    lines = figure.layout.title.text.split("<br>")
    assert len(lines) > 2
    assert max(map(len, lines)) * 7.7 < figure.layout.width


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_title_takes_room_of_its_own(theme):
    figure, bare = show(_effects("a"), theme), effects_figure(_effects("a"), theme)
    added = figure.layout.height - bare.layout.height
    assert added >= 40
    assert figure.layout.margin.t - bare.layout.margin.t == added
    assert figure.layout.title.font.color == theme.ink
    assert figure.layout.title.subtitle.font.color == theme.muted
    bare.update_layout(height=400, legend={"yref": "container", "y": 1})
    assert titled(bare, ("A", "b"), theme).layout.legend.y < 1 - 40 / 460


def test_the_page_of_a_training_calls_no_codebook_an_sae():
    settings = {"architecture": "codebook", "codebook_variant": "plain", "d_sae": 64}
    assert what_it_is({"sae": settings})[0] == "Plain codebook"
    assert what_it_is({"sae": settings | {"architecture": "topk"}})[0] == "TopK SAE"
