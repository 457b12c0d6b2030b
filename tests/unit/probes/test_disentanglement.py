"""Codes against labels: invariances of the metrics, the gate, the null, intervals that cover, results that last."""

import json
import math

import numpy as np
import pytest

from interp.errors import ArtifactError, DataError, NonFiniteError, ShapeError
from probes.dci import fit_dci
from probes.disentanglement import (
    DCI_D,
    INFO_C,
    INFO_E,
    INFO_M,
    METRICS,
    MIG,
    SAP,
    Factor,
    disentangle,
    with_shuffled_labels,
)
from probes.disentanglement_report import DisentanglementReport
from probes.geometry import correlation_spectrum, von_neumann_entropy
from probes.half_samples import half_sample_score, random_halves
from probes.infomec import active_codes, info_modularity
from probes.information_gaps import attribute_gap, information_gap, modularity
from probes.mutual_information import binned_information, entropy, neighbour_information


def _world(n=400, *, seed=0, n_words=100):
    """Two independent factors of three classes; words of four examples."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, (n, 2))
    factors = [Factor(name, ("a", "b", "c"), labels[:, i]) for i, name in enumerate(("one", "two"))]
    return labels, factors, np.arange(n) % n_words


def _identity(labels, seed=0):
    noise = np.random.default_rng(seed).standard_normal(labels.shape)
    return np.hstack([labels + 0.05 * noise, 0.01 * noise])


def test_codes_that_are_the_factors_score_one():
    labels, factors, words = _world()
    found = disentangle("own", _identity(labels), factors, words, n_halves=4)
    for metric in (MIG, SAP, DCI_D, INFO_M, INFO_E, INFO_C):
        assert found.scores[metric].value > 0.9, metric
    assert not found.gated
    assert (found.n_codes, found.n_active, found.n_clusters) == (4, 2, 100)


def test_codes_of_noise_are_gated():
    _, factors, words = _world()
    noise = np.random.default_rng(5).standard_normal((400, 6))
    found = disentangle("noise", noise, factors, words, n_halves=4)
    assert found.gated
    assert found.scores[INFO_E].value < 0.02
    assert not found.scores[INFO_M].defined
    # What they would have been reads like a finding.
    assert found.ungated[0] > 0.3
    assert found.scores[MIG].value < 0.02


def test_shuffled_labels_are_noise_to_any_codes():
    labels, factors, words = _world()
    null = with_shuffled_labels(factors, words, seed=1)
    assert [np.bincount(f.labels).tolist() for f in null] == [np.bincount(f.labels).tolist() for f in factors]
    assert disentangle("null", _identity(labels), null, words, n_halves=4).gated


def test_labels_that_follow_words_are_shuffled_word_by_word():
    words = np.repeat(np.arange(40), 5)
    factor = Factor("kind", ("x", "y"), (words % 2))
    null = with_shuffled_labels([factor], words, seed=0)[0].labels.reshape(40, 5)
    assert (null == null[:, :1]).all()
    assert null[:, 0].sum() == 20
    assert (null[:, 0] != factor.labels.reshape(40, 5)[:, 0]).any()


def test_what_no_metric_may_depend_on():
    """Order of examples, order and scale of codes, order of factors, numbers of classes."""
    labels, _, _ = _world()
    codes = _identity(labels) @ np.random.default_rng(2).standard_normal((4, 4))
    entropies = np.array([entropy(column) for column in labels.T])
    draw = np.random.default_rng(3)
    rows, columns = draw.permutation(400), draw.permutation(4)
    moved = (codes * np.array([1, -2, 0.5, 30.0]) + 7)[rows][:, columns]
    renamed = np.array([2, 0, 1])[labels[rows]][:, ::-1]

    def scores(x, y):
        m = binned_information(x, y, n_bins=10)
        return information_gap(m, entropies), modularity(m), attribute_gap(x, y)

    assert scores(moved, renamed) == pytest.approx(scores(codes, labels), abs=0.02)
    near = neighbour_information(codes, labels), neighbour_information(moved, renamed)
    assert near[1] == pytest.approx(near[0][columns][:, ::-1], abs=1e-6)


def test_known_information_tables():
    assert modularity(np.eye(3)) == 1
    assert modularity(np.ones((4, 3))) == 0
    assert info_modularity(np.eye(3)) == 1
    assert info_modularity(np.ones((4, 3))) == pytest.approx(0)
    # One factor in two codes: the second one leaves no lead.
    assert information_gap(np.array([[1.0], [1.0], [0.2]]), np.array([2.0])) == 0
    assert information_gap(np.array([[1.0]]), np.array([2.0])) == 0.5
    assert math.isnan(modularity(np.ones((4, 1))))
    assert math.isnan(modularity(np.zeros((2, 2))))
    assert math.isnan(info_modularity(np.zeros((2, 2))))


def test_codes_of_small_range_are_pruned():
    codes = np.stack([np.linspace(0, 20, 9), np.linspace(0, 1.01, 9), np.linspace(0, 1, 9), np.zeros(9)], axis=1)
    assert active_codes(codes).tolist() == [True, True, False, False]


def test_a_factor_that_no_tree_can_split_weighs_nothing():
    labels = np.stack([np.arange(60) % 2, np.zeros(60, dtype=np.int64)], axis=1)
    found = fit_dci(labels[:, :1] + 0.0, labels, np.arange(60) < 30)
    assert found.importance.tolist() == [[1.0, 0.0]]
    assert found.disentanglement == 1.0
    assert math.isnan(found.completeness)


def test_the_spectrum_is_of_directions_not_of_lengths():
    draw = np.random.default_rng(0)
    x = draw.standard_normal((50, 6))
    longer = x * draw.uniform(0.1, 10, (50, 1))
    assert correlation_spectrum(longer) == pytest.approx(correlation_spectrum(x), abs=1e-12)
    assert correlation_spectrum(np.vstack([x, np.zeros((5, 6))])).sum() == pytest.approx(1)
    turned = x @ np.linalg.qr(draw.standard_normal((6, 6)))[0]
    assert von_neumann_entropy(turned) == pytest.approx(von_neumann_entropy(x), abs=1e-10)


def test_intervals_cover_what_endless_examples_would_say():
    """Clusters of five equal values: the interval over clusters covers the mean as often as it says."""
    covered = {"clusters": 0, "examples": 0}
    for seed in range(200):
        values = np.repeat(np.random.default_rng(seed).standard_normal(60), 5)
        for by, clusters in (("clusters", np.arange(300) // 5), ("examples", np.arange(300))):
            halves = [values[half].mean() for half in random_halves(clusters, 20, seed=seed)]
            low, high = half_sample_score(values.mean(), halves).interval
            covered[by] += low <= 0 <= high
    # 95% of 200, within two and a half standard errors of that count and of the spread of 20 halves.
    assert covered["clusters"] >= 180
    assert covered["examples"] < 150


def test_results_last(tmp_path):
    labels, factors, words = _world(120, n_words=30)
    arms = tuple(
        disentangle(name, codes, factors, words, n_halves=3)
        for name, codes in (
            ("half", _identity(labels)[:, :1] + 0.0),
            ("noise", np.random.default_rng(1).random((120, 3))),
        )
    )
    report = DisentanglementReport("invented <set>", arms, {"seed": 0})
    report.save(tmp_path / "report.json")
    again = DisentanglementReport.load(tmp_path / "report.json")
    assert again.to_json() == report.to_json()
    assert again.arms[1].gated is True
    assert math.isnan(again.arms[1].scores[INFO_M].value)
    table = again._repr_html_()
    assert "invented &lt;set&gt;" in table
    assert "not defined" in table
    assert all(metric in table for metric in METRICS)
    (tmp_path / "other.json").write_text(json.dumps({"kind": "disentanglement", "schema_version": 1, "title": "x"}))
    with pytest.raises(ArtifactError, match="damaged"):
        DisentanglementReport.load(tmp_path / "other.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ArtifactError, match="is no disentanglement"):
        DisentanglementReport.load(tmp_path / "other.json")


def test_what_cannot_be_measured_is_told():
    labels, factors, words = _world()
    codes = _identity(labels)
    with pytest.raises(DataError, match="never vary"):
        disentangle("x", np.ones((400, 3)), factors, words)
    with pytest.raises(DataError, match="one class alone"):
        disentangle("x", codes, [Factor("one", ("a", "b"), np.zeros(400, dtype=np.int64))], words)
    with pytest.raises(DataError, match="one cluster"):
        disentangle("x", codes, factors, np.zeros(400, dtype=np.int64))
    with pytest.raises(ShapeError, match="got lengths"):
        disentangle("x", codes, [Factor("one", ("a", "b"), np.arange(10) % 2)], words)
    with pytest.raises(DataError, match="no factors"):
        disentangle("x", codes, [], words)
    for wrong in (labels[:, 0] + 1, labels[:, 0] - 1):
        with pytest.raises(DataError, match=r"^factor 'one': got label (3|-1); expected 0 to 2"):
            disentangle("x", codes, [Factor("one", ("a", "b", "c"), wrong)], words)
    with pytest.raises(NonFiniteError, match="NaN or infinite codes on 1 of 400 examples"):
        disentangle("x", np.where(np.arange(400)[:, None] == 7, np.nan, codes), factors, words)
