"""One feature's record says what the statistics say, and packing loses nothing of it."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.feature_records import WindowLimits, feature_records, row_ends, used_tokens, window_limits
from dashboards.numbers import five_digits, rounded
from dashboards.packing import as_json, merge_windows, pack_features
from dashboards.run_record import load_run
from tests.invented_run import make_run

DASHBOARDS = Path(__file__).parents[3] / "dashboards"
ALL = WindowLimits(top=8, random=10, band=5)


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    return load_run(make_run(tmp_path_factory.mktemp("runs") / "invented")).statistics


@pytest.fixture(scope="module")
def records(statistics):
    return feature_records(statistics, range(64), limits=ALL)


def test_windows_agree_with_the_statistics(statistics, records):
    feature = int(np.argmax(statistics.density))
    for kind, limit in (("top", 8), ("random", 10)):
        stored, told = getattr(statistics, kind), records[feature]["windows"][kind]
        order = np.argsort(-stored.values[feature], kind="stable")
        assert len(told) == limit
        for rank, window in zip(order, told, strict=True):
            assert window["value"] == pytest.approx(float(stored.values[feature, rank]), rel=1e-4)
            assert window["tokens"] == stored.tokens[feature, rank].tolist()
            assert window["document"] == stored.document[feature, rank]
            assert dict(window["fired"])[window["peak"]] == pytest.approx(window["value"], rel=5.5e-3)
            assert set(window["tokens"]) <= set(used_tokens(statistics).tolist())


def test_windows_say_whether_their_row_of_text_ends_with_them():
    """Rows of 40 tokens and of 5, windows of 9 cut as the pass cuts them."""
    for length in (5, 40):
        for place in range(length):
            start = max(min(place - 6, length - 9), 0)
            used = (start + np.arange(9) < length)[None, None]
            ends = bool(row_ends(used, np.array([[place - start]]))[0, 0])
            # A window in its usual place cannot tell whether it ends the row by chance.
            assert ends == (start + 9 >= length) or place - start == 6


def test_quantile_windows_name_their_band(statistics, records):
    feature = int(np.argmax(statistics.density))
    told = records[feature]["windows"]["quantile"]
    assert [window["band"] for window in told] == [band for band in range(5) for _ in range(5)]
    low = statistics.near_threshold.values[feature]
    assert sorted(window["value"] for window in told if window["band"] == 0) == pytest.approx(sorted(low), rel=1e-4)


def test_related_features_are_told_with_their_numbers(statistics, records):
    feature = int(np.argmax(statistics.density))
    first = records[feature]["cofiring"][0]
    assert first == [
        int(statistics.partners[feature, 0]), 12,
        *five_digits(np.array([
            statistics.partner_given_feature[feature, 0], statistics.feature_given_partner[feature, 0],
            statistics.partner_lift[feature, 0],
        ])),
    ]  # fmt: skip
    assert [other for other, _ in records[feature]["neighbours"]] == statistics.neighbours[feature].tolist()


def test_children_are_told_with_both_conditionals(statistics, records):
    parent = int(np.argmax((statistics.children >= 0).sum(1)))
    told = records[parent]["children"]
    assert [child for child, *_ in told] == [child for child in statistics.children[parent].tolist() if child >= 0]
    assert {tuple(numbers) for _, *numbers in told} == {(0.41, 0.83, 0.07)}
    assert all(statistics.level[child] > statistics.level[parent] for child, *_ in told)


def test_what_was_not_collected_is_null_and_what_never_happened_is_empty(statistics, records):
    dead = int(np.flatnonzero(statistics.density == 0)[0])
    assert records[dead]["windows"] == {"top": [], "random": [], "quantile": []}
    assert records[dead]["cofiring"] == records[dead]["fires_on"] == []
    uncounted = replace(statistics, n_coactivation_tokens=0)
    (record,) = feature_records(uncounted, [3], limits=WindowLimits(top=2, random=0, band=0))
    assert record["cofiring"] is record["children"] is None
    assert (record["windows"]["random"], record["windows"]["quantile"]) == (None, None)
    related = [field.name for field in fields(statistics) if re.search("partner|neighbour|child", field.name)]
    unkept = replace(statistics, **{name: getattr(statistics, name)[:, :0] for name in related})
    (record,) = feature_records(unkept, [3], limits=ALL)
    assert record["neighbours"] is record["cofiring"] is record["children"] is None


def test_unpacking_gives_the_windows_and_documents_back(statistics, records):
    packed = dict(pack_features(statistics, limits=ALL))
    text = [token for name, block in packed.items() if name.startswith("text/") for token in block]
    unpacked = [record for name, chunk in packed.items() if name.startswith("features/") for record in chunk]
    for record in unpacked:
        for windows in record["windows"].values():
            windows[:] = [_unpacked(window, text) for window in windows]
    assert json.loads(as_json(unpacked)) == json.loads(as_json(records))
    stretches = packed["documents"]
    assert sum(stretches["n"]) == len(text) < sum(len(w["tokens"]) for r in records for w in r["windows"]["top"]) * 9
    assert stretches["document"] == sorted(stretches["document"])


def _unpacked(window, text):
    tokens = text[window["at"] : window["at"] + window["n"]]
    return {key: value for key, value in window.items() if key not in ("at", "n")} | {"tokens": tokens}


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 8), st.booleans()), max_size=20
    )
)  # fmt: skip
def test_merged_text_holds_every_window_and_its_stretches_are_disjoint(drawn):
    documents = np.random.default_rng(0).integers(0, 3, (3, 40)).tolist()
    windows = [
        {
            "document": document, "position": begin + n - 1, "peak": n - 1,
            # The same positions of a document may hold other text: a later piece of it.
            "tokens": documents[(document + other) % 3][begin : begin + n],
        }
        for document, begin, n, other in drawn
    ]  # fmt: skip
    text, starts, stretches = merge_windows(windows)
    for window, start in zip(windows, starts, strict=True):
        assert text[start : start + len(window["tokens"])] == window["tokens"]
        (home,) = [s for s, end in zip(stretches, _ends(stretches, text), strict=True) if s.at <= start < end]
        assert (home.document, home.position + start - home.at) == (
            window["document"], window["position"] - window["peak"],
        )  # fmt: skip


def _ends(stretches, text):
    return [*(stretch.at for stretch in stretches[1:]), len(text)]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=20))
def test_rounding_keeps_its_digits(values):
    for digits, error in ((5, 5.1e-5), (3, 5.1e-3)):
        for value, kept in zip(values, rounded(np.array(values, dtype=np.float64), digits), strict=True):
            assert (kept is None) == (not np.isfinite(value))
            assert kept is None or kept == pytest.approx(value, rel=error)


def test_large_dictionaries_show_fewer_windows_each(statistics):
    assert window_limits(statistics) == ALL
    assert window_limits(statistics, budget=64 * 43 // 2) == WindowLimits(top=4, random=5, band=2)
    assert window_limits(statistics, budget=1) == WindowLimits(top=2, random=0, band=0)


def test_every_statistic_of_the_pass_has_a_place_in_the_contract(statistics):
    """A field that the pass measures and no page shows was measured for nothing."""
    # Bands are named by share, partners are in order of correlation.
    told_otherwise = {"quantile_edges", "partner_correlation", "quantile"}
    source = "".join((DASHBOARDS / name).read_text() for name in ("feature_contract.py", "feature_records.py"))
    missing = {field.name for field in fields(statistics) if not re.search(rf"[.\"]{field.name}\b", source)}
    assert missing <= told_otherwise
