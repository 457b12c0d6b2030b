"""Every statistic of the one pass against a naive computation on dense arrays."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from saes.feature_pass import coactivation, label_auc, neighbours
from saes.feature_pass.coactivation import Coactivation
from saes.feature_pass.describe import SHOWN_TOKENS, cut_all, describe
from saes.feature_pass.detection import detection_auc
from saes.feature_pass.firing import bin_edges, density_interval, strength
from saes.feature_pass.group_auc import grouped_auc
from saes.feature_pass.settings import FeatureSettings
from saes.metrics import document_bootstrap, share_unexplained
from tests.one_pass import Invented, corpus, invented, read, spilled


@pytest.fixture(scope="module")
def made():
    return invented(n_documents=150)


@pytest.fixture(scope="module")
def both(made, tmp_path_factory):
    return read(made, tmp_path_factory.mktemp("spill"))


def auc(score, truth):
    """Mann-Whitney over all items, ties at half."""
    ranks = rankdata(score)
    n, m = int(truth.sum()), int((~truth).sum())
    return (ranks[truth].sum() - n * (n + 1) / 2) / (n * m)


def test_text_and_firings_come_back_from_the_shards(made, both):
    text, firings = both
    np.testing.assert_array_equal(text.token_ids, made.token_ids)
    np.testing.assert_array_equal(text.document[text.span], made.document)
    dense = np.zeros_like(made.acts)
    dense[firings.places, firings.rows()] = firings.values
    np.testing.assert_array_equal(dense, made.acts)
    assert text.n_kept == made.keep.sum()


def test_strength(made, both):
    _, firings = both
    largest = float(made.acts.max())
    found = strength(firings, largest=largest, n_bands=5)
    np.testing.assert_array_equal(found.maximum, made.acts.max(0))
    fired = (made.acts > 0).sum(0)
    np.testing.assert_allclose(found.mean, made.acts.sum(0, dtype=np.float64) / np.maximum(fired, 1), rtol=1e-6)
    assert (found.histogram.sum(1) == fired).all()
    for feature in range(made.acts.shape[1] - 1):
        by_numpy = np.histogram(made.acts[:, feature], bins=bin_edges(largest))[0]
        assert np.abs(by_numpy - found.histogram[feature])[1:].sum() <= 2


def test_bands_hold_equal_counts(made, both):
    _, firings = both
    edges = strength(firings, largest=1.0, n_bands=4).edges
    for feature in range(made.acts.shape[1] - 1):
        values = np.sort(made.acts[made.acts[:, feature] > 0, feature])
        bands = np.array_split(values, 4)
        counts = np.histogram(values, np.append(edges[feature, :-1], np.inf))[0]
        assert counts.sum() == values.size
        assert np.ptp(counts) <= 1
        assert edges[feature, 0] == values[0]
        assert edges[feature, -1] == values[-1]
        assert sorted(counts) == sorted(band.size for band in bands)
    assert np.isnan(edges[-1]).all()


def test_the_density_interval_is_the_bootstraps(tmp_path):
    made = invented(n_documents=400, n_features=4, longest=12)
    text, firings = read(made, tmp_path)
    found = density_interval(firings, text)
    names, owner = np.unique(made.document, return_inverse=True)
    for feature in (0, 1):
        fired = np.bincount(owner, made.acts[:, feature] > 0, names.size)
        table = np.stack([fired, np.bincount(owner, made.keep, names.size)], axis=1)
        low, high = document_bootstrap(table, share_unexplained, seed=0, n_resamples=3000)
        # One is symmetric on the logarithm, the other takes percentiles: they agree to a tenth of their width.
        np.testing.assert_allclose(found[feature], [low, high], atol=(high - low) / 10)
    assert found[-1].tolist() == [0.0, 3 / text.n_kept]


def test_auc_of_groups_is_that_of_items():
    rng = np.random.default_rng(0)
    row, score = np.repeat(np.arange(3), 6), rng.integers(1, 4, 18) / 4
    items = rng.integers(1, 9, 18)
    positives = rng.integers(0, items + 1)
    # Besides the groups, each row has items of score zero, some positive.
    rest_items, rest_positives = np.array([10, 0, 4]), np.array([2, 0, 4])
    all_items = np.bincount(row, items) + rest_items
    all_positives = (np.bincount(row, positives) + rest_positives).astype(int)
    found = grouped_auc(row, score, positives, items, all_positives, all_items.astype(int))
    for line in range(3):
        scores, truth = [0.0] * rest_items[line], [True] * rest_positives[line]
        truth += [False] * (rest_items[line] - rest_positives[line])
        for index in np.flatnonzero(row == line):
            scores += [score[index]] * items[index]
            truth += [True] * positives[index] + [False] * (items[index] - positives[index])
        assert found[line] == pytest.approx(auc(np.array(scores), np.array(truth)), rel=1e-12)


def test_auc_needs_both_kinds():
    none, one = np.zeros(0, int), np.array([0.0])[:0]
    found = grouped_auc(none, one, none, none, np.array([0, 5]), np.array([5, 5]))
    assert np.isnan(found).all()


def _naive_scores(made, second, feature):
    """Scores of the second half's kept tokens by token and by pair, from rates in the first half."""
    fired, first = made.acts[:, feature] > 0, made.keep & ~second
    overall = fired[first].mean()

    def rate(chosen, otherwise):
        return fired[chosen].mean() if chosen.any() else otherwise

    by_token, by_pair = [], []
    for place in np.flatnonzero(made.keep & second):
        same = first & (made.token_ids == made.token_ids[place])
        by_token.append(rate(same, overall))
        pair = same & (made.previous == made.previous[place])
        known = made.previous[place] >= 0 and pair.sum() >= label_auc.MIN_SEEN
        by_pair.append(fired[pair].mean() if known else by_token[-1])
    return np.array(by_token), np.array(by_pair), fired[made.keep & second]


@pytest.mark.parametrize("exact", [True, False])
def test_token_and_bigram_auc(made, both, exact, monkeypatch):
    text, firings = both
    if not exact:
        # Wide enough that no two pairs of this vocabulary meet.
        monkeypatch.setattr(label_auc, "BUCKETS", 1 << 20)
        text = type(text)(**{name: getattr(text, name) for name in type(text).__slots__} | {"d_vocab": 2000})
    tokens, pairs = label_auc.token_labels(text), label_auc.bigram_labels(text)
    counts, pair_counts = (label_auc.count_labels(firings, text, labels) for labels in (tokens, pairs))
    token = label_auc.token_auc(firings, tokens, counts)
    bigram = label_auc.bigram_auc(firings, text, tokens, counts, pairs, pair_counts)
    second = text.second[text.owner[text.span]]
    for feature in (0, 1, 2, 3, 5):
        by_token, by_pair, truth = _naive_scores(made, second, feature)
        if truth.all():
            assert np.isnan(token[feature])
            continue
        assert token[feature] == pytest.approx(auc(by_token, truth), abs=1e-12)
        assert bigram[feature] == pytest.approx(auc(by_pair, truth), abs=1e-12)
    assert np.isnan([token[-1], bigram[-1]]).all()
    # Feature 1 listens to a pair: the token before is worth knowing.
    assert bigram[1] > token[1] + 0.03


def test_firing_tokens(made, both):
    text, firings = both
    labels = label_auc.token_labels(text)
    found, share = label_auc.most_fired_on(firings, label_auc.count_labels(firings, text, labels), 5)
    for feature in range(made.acts.shape[1]):
        counts = np.bincount(made.token_ids[made.acts[:, feature] > 0], minlength=made.d_vocab)
        expected = np.argsort(-counts, kind="stable")[:5]
        expected = expected[counts[expected] > 0]
        assert found[feature, : expected.size].tolist() == expected.tolist()
        assert (found[feature, expected.size :] == -1).all()
        np.testing.assert_allclose(share[feature, : expected.size], counts[expected] / max(counts.sum(), 1), rtol=1e-6)


def test_copies_of_a_document_fall_in_the_same_half(tmp_path):
    made = invented(n_documents=80)
    again = {name: np.concatenate([getattr(made, name)] * 2) for name in ("acts", "token_ids", "keep")}
    document = np.concatenate([made.document, made.document + 1])
    span = np.concatenate([made.span, made.span + made.span.max() + 1])
    text, _ = read(type(made)(**again, document=document, span=span, d_vocab=made.d_vocab), tmp_path)
    half = dict(zip(text.document.tolist(), text.second[text.owner].tolist(), strict=True))
    assert all(half[name] == half[name + 1] for name in np.unique(made.document).tolist())
    assert 0.3 < np.mean(list(half.values())) < 0.7


def _twice(made):
    """Every document and a copy of it, which is cut into other spans."""
    again = np.argsort(made.document, kind="stable")
    span = made.span.max() + 1 + np.cumsum(np.diff(made.document[again], prepend=made.document[again][0]) != 0)
    both = {
        name: np.concatenate([x, x[again]]) for name in ("acts", "token_ids", "keep") for x in [getattr(made, name)]
    }
    document = np.concatenate([made.document, made.document[again] + 1])
    return Invented(**both, document=document, span=np.concatenate([made.span, span]), d_vocab=made.d_vocab)


@pytest.mark.parametrize("copies", [False, True])
def test_detection_auc_is_that_of_text_of_which_no_copy_is_shown(made, tmp_path, copies):
    made = _twice(made) if copies else made
    settings = FeatureSettings(n_top=2, n_random=1, n_bands=2, per_band=1, window=4)
    whole = corpus(made, tmp_path, torch.randn(7, 5), np.ones(7, dtype=np.int64))
    text, firings = read(made, tmp_path / "again")
    edges = strength(firings, largest=1.0, n_bands=2).edges
    records = cut_all(whole.text, firings, edges, settings)
    found = detection_auc(firings, text, records)
    contents = [sorted(made.token_ids[made.keep & (made.document == name)]) for name in made.document]
    for feature in range(made.acts.shape[1]):
        shown = [record for record in records[feature] if record["value"] > 0]
        tokens = np.concatenate([record["tokens"] for record in shown] or [np.zeros(0, int)])
        fires = np.concatenate([record["acts"] for record in shown] or [np.zeros(0)]) > 0
        seen = [contents[np.flatnonzero(made.document == record["document"])[0]] for record in shown]
        hidden = made.keep & np.array([content not in seen for content in contents])
        truth = made.acts[hidden, feature] > 0
        if truth.sum() < label_auc.MIN_FIRINGS or truth.all():
            assert np.isnan(found[feature])
            continue
        rates = [fires[tokens == token].mean() if (tokens == token).any() else 0.0 for token in made.token_ids[hidden]]
        assert found[feature] == pytest.approx(auc(np.array(rates), truth), abs=1e-12)
    assert np.isfinite(found[:3]).all()


def _dense_relations(made, stride=1):
    counted = made.keep & coactivation.counted(np.arange(made.keep.size), stride)
    fired = (made.acts > 0)[counted].astype(np.int64)
    return fired.T @ fired, fired.sum(0), int(counted.sum()), fired


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("row_firings", [1 << 24, 500])
def test_pairs_are_counted_over_the_whole_dictionary(made, tmp_path, monkeypatch, stride, row_firings):
    spill = spilled(made, tmp_path)
    _, _, _, fired = _dense_relations(made)
    per_token = np.square(fired.sum(1)).sum() / len(fired)
    monkeypatch.setattr(coactivation, "PAIRS_PER_TOKEN", per_token / (stride - 0.5))
    monkeypatch.setattr(coactivation, "ROW_FIRINGS", row_firings)
    monkeypatch.setattr(coactivation, "STEP_PAIRS", 40)
    text, _ = read(made, tmp_path / "again")
    counter = Coactivation(spill, text, 7)
    offsets = spill.feature_offsets()
    together = [counter.block(spill.firings(offsets, first, first + size)) for first, size in ((0, 4), (4, 3))]
    counts, firings, n_tokens, _ = _dense_relations(made, stride)
    np.testing.assert_array_equal(np.concatenate([part.counts for part in together]), counts)
    np.testing.assert_array_equal(together[0].firings, firings)
    assert together[0].n_tokens == counter.n_tokens == n_tokens


def test_one_token_in_stride_is_counted_wherever_it_stands_in_its_row():
    for stride, length in ((4, 32), (3, 30)):
        drawn = coactivation.counted(np.arange(length * 4000), stride).reshape(4000, length)
        # Binomial with 4,000 draws: 5 standard deviations.
        np.testing.assert_allclose(drawn.mean(0), 1 / stride, atol=5 * (stride - 1) ** 0.5 / stride / 4000**0.5)
    assert coactivation.counted(np.arange(50), 1).all()


def test_windows_are_written_a_few_features_at_a_time_where_they_are_long(made, tmp_path):
    settings, sizes = FeatureSettings(n_top=1000, window=1024), []
    whole = corpus(made, tmp_path, torch.randn(7, 5), np.ones(7, dtype=np.int64))
    describe(whole, settings, lambda records: sizes.append(records["tokens"].size))
    assert sum(sizes) == 7 * settings.shown_tokens
    assert max(sizes) <= max(SHOWN_TOKENS, settings.shown_tokens)


def test_partners_are_the_most_correlated(made, tmp_path):
    whole = corpus(made, tmp_path, torch.randn(7, 5), np.ones(7, dtype=np.int64))
    firings = whole.spill.firings(whole.spill.feature_offsets(), 0, 7)
    found = coactivation.partners(whole.coactivation.block(firings), 3)
    counts, own, n_tokens, fired = _dense_relations(made)
    with np.errstate(invalid="ignore"):
        correlation = np.nan_to_num(np.corrcoef(fired.T), nan=0.0)
    np.fill_diagonal(correlation, 0)
    correlation[counts < coactivation.MIN_TOGETHER] = 0
    for feature in range(7):
        expected = [j for j in np.argsort(-correlation[feature]) if correlation[feature, j] > 1e-9][:3]
        assert found.ids[feature, : len(expected)].tolist() == expected
        assert (found.ids[feature, len(expected) :] == -1).all()
        for slot, other in enumerate(expected):
            assert found.score[feature, slot] == pytest.approx(correlation[feature, other], rel=1e-5)
            assert found.count[feature, slot] == counts[feature, other]
            assert found.given_feature[feature, slot] == pytest.approx(counts[feature, other] / own[feature])
            assert found.given_other[feature, slot] == pytest.approx(counts[feature, other] / own[other])
            lift = counts[feature, other] * n_tokens / (own[feature] * own[other])
            assert found.lift[feature, slot] == pytest.approx(lift, rel=1e-5)
    assert found.ids[0, 0] == 2
    assert found.ids[2, 0] == 0


def test_parents_and_children_stand_on_other_levels_and_imply(made, tmp_path):
    level = np.array([1, 1, 2, 2, 2, 3, 3])
    whole = corpus(made, tmp_path, torch.randn(7, 5), level)
    firings = whole.spill.firings(whole.spill.feature_offsets(), 0, 7)
    together = whole.coactivation.block(firings)
    parents, children = (pick(together, level, 7) for pick in (coactivation.parents, coactivation.children))
    counts, own, n_tokens, _ = _dense_relations(made)
    for child in range(7):
        gains = {
            parent: (counts[child, parent] + 1) / (own[child] + 2) - own[parent] / n_tokens
            for parent in range(7)
            if level[parent] < level[child] and counts[child, parent] >= coactivation.MIN_TOGETHER
        }
        expected = sorted((parent for parent in gains if gains[parent] > 0), key=lambda parent: -gains[parent])
        assert parents.ids[child][parents.ids[child] >= 0].tolist() == expected
        for parent in expected:
            # The same relation, seen from above.
            slot = children.ids[parent].tolist().index(child)
            assert children.score[parent, slot] == pytest.approx(gains[parent], rel=1e-5)
            assert children.given_other[parent, slot] == pytest.approx(counts[child, parent] / own[child])
    assert parents.ids[2, 0] == 0


def test_neighbours_are_the_largest_cosines():
    directions = torch.randn(20, 6)
    unit = neighbours.unit_rows(directions)
    ids, cosine = neighbours.nearest(unit, 5, 12, 4)
    dense = torch.nn.functional.cosine_similarity(directions[:, None], directions[None], dim=2).numpy()
    for line, feature in enumerate(range(5, 12)):
        expected = [other for other in np.argsort(-dense[feature]) if other != feature][:4]
        assert ids[line].tolist() == expected
        np.testing.assert_allclose(cosine[line], dense[feature, expected], rtol=1e-4, atol=1e-6)
    again = neighbours.cosines(unit, 5, ids)
    np.testing.assert_allclose(again, cosine, atol=1e-6)
    assert neighbours.nearest(unit[:2], 0, 2, 4)[0].tolist() == [[1, -1, -1, -1], [0, -1, -1, -1]]
