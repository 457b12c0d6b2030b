import numpy as np
import pytest

from dashboards.theme import DARK, LIGHT
from dashboards.timeline_view import PARTS, parts_of, time_in_words, timeline_figure
from dashboards.watch_rows import Pace
from tests.invented_run import training_rows

ROW = {
    "step": 1, "n_tokens": 2048, "tokens_per_s": 1000.0, "seconds_harvest": 6.5, "seconds_text": 0.3,
    "seconds_shuffle": 0.2, "seconds_update": 3.3,
}  # fmt: skip


def test_parts_of_a_row_add_up_to_its_time():
    assert parts_of(ROW) == pytest.approx({"language model": 6.2, "text": 0.3, "shuffle": 0.2, "step": 3.3})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "The language model takes 62% of the time, the steps 33%, text 3%, shuffling 2%."),
        ({"seconds_harvest": 0.3, "seconds_shuffle": 0.0}, "The steps take 92% of the time, text 8%."),
        (
            {"seconds_ahead": 5.0, "seconds_text": 0.0},
            "Waiting for activations takes 65% of the time, the steps 33%, shuffling 2%; "
            "activations were made beside it during 50%.",
        ),
        ({"seconds_harvest": 0.0, "seconds_shuffle": 0.0, "seconds_update": 0.0}, "Not measured."),
    ],
)
def test_words_say_who_takes_the_time(more, told):
    assert time_in_words([ROW | more]) == told


@pytest.mark.parametrize("block_tokens", [0, 65_536])
def test_the_bars_area_is_the_runs_time(block_tokens):
    rows = [
        row | {"seconds_text": 0.1, "n_tokens": row["step"] * 2048}
        for row in training_rows(np.random.default_rng(0), [])
    ]
    figure = timeline_figure(rows, block_tokens=block_tokens)
    assert [trace.name for trace in figure.data] == list(PARTS)
    n = len(figure.data[0].x)
    assert 2 <= n <= 40
    assert min(figure.data[0].width) >= 2 * block_tokens
    for trace in figure.data:
        area = float(np.dot(trace.y, trace.width)) / 1e6
        total = sum(parts_of(row)[trace.name] for row in rows)
        # Rows after the last whole bar are not drawn.
        assert total * (1 - 2 / n) <= area <= total * (1 + 1e-9)


def test_one_burst_of_the_model_is_spread_over_its_bar():
    rows = [ROW | {"step": i, "seconds_harvest": 8.0 if i % 4 == 0 else 0.0, "seconds_text": 0.0} for i in range(80)]
    rows = [row | {"tokens_per_s": 1000 / (row["seconds_harvest"] + 3.5)} for row in rows]
    figure = timeline_figure(rows, block_tokens=4000)
    assert figure.data[0].name == "language model"
    np.testing.assert_allclose(figure.data[0].y, 2000.0)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_its_words_stand_above_it_and_parts_beside(theme):
    texts = [note.text for note in timeline_figure([ROW, ROW], theme).layout.annotations]
    assert sorted(texts) == sorted([
        "model 62%", "text 3%", "shuffle 2%", "step 33%",
        "The language model takes 62% of the time,<br>the steps 33%, text 3%, shuffling 2%.",
    ])  # fmt: skip


def test_nothing_measured_is_an_empty_figure():
    assert timeline_figure([{"step": 1, "loss": 2.0}]).data == ()


def test_the_live_page_tells_text_from_the_model():
    shares = Pace(0).add(ROW)
    assert shares["share_text"] == pytest.approx(0.03)
    assert shares["share_harvest"] == pytest.approx(0.62)
    assert sum(value for key, value in shares.items() if key.startswith("share_")) == pytest.approx(1)
