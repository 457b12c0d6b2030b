import dataclasses
import json
from itertools import islice

import numpy as np
import pytest
import torch

from interp.activations.harvest import harvest_batch
from interp.datasets import TokenBatch, TokenStream
from interp.errors import ArtifactError
from saes.facts import SAEFacts
from saes.feature_pass import describe, detection, shards
from saes.feature_pass.pass_facts import pass_facts
from saes.features import (
    FeatureSettings,
    collect_features,
    levels_of,
    load_features,
    save_features,
    write_features,
)
from saes.normalised import NormalisedSAE
from tests.families import tiny_model
from tests.specimens import HOOK, random_sae, tiny_stream

N_EXAMPLES, WINDOW = 4, 7
EVERYTHING = FeatureSettings(n_tokens=10**6, n_top=N_EXAMPLES, window=WINDOW)


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def sae():
    return random_sae("matryoshka")


@pytest.fixture(scope="module", params=["padded", "packed"])
def stream(request, tmp_path_factory, model):
    return tiny_stream(tmp_path_factory.mktemp("texts"), model, rows=request.param)


@pytest.fixture(scope="module")
def statistics(model, sae, stream):
    with pytest.MonkeyPatch.context() as small:
        # Several shards and several blocks, as large text and large dictionaries make them.
        small.setattr(shards, "SHARD_TOKENS", 150)
        small.setattr(describe, "BLOCK_FEATURES", 7)
        small.setattr(describe, "SHOWN_TOKENS", 3 * EVERYTHING.shown_tokens)
        small.setattr(detection, "HIDDEN_CELLS", 2 * model.d_vocab)
        return collect_features(model, sae, stream, EVERYTHING)


@dataclasses.dataclass
class Everything:
    """All batches with all activations as dense (b, t, f) tensors, zero on tokens that are not kept."""

    batches: list[TokenBatch]
    acts: list[torch.Tensor]


@pytest.fixture(scope="module")
def everything(model, sae, stream):
    batches = list(stream.iter_pass())
    acts = []
    for batch in batches:
        dense = torch.zeros(*batch.keep.shape, sae.d_sae)
        dense[batch.keep] = sae.encode(harvest_batch(model, batch, (HOOK,)).acts[HOOK]).dense().detach()
        acts.append(dense)
    return Everything(batches, acts)


def _kept(everything):
    return torch.cat([acts[batch.keep] for batch, acts in zip(everything.batches, everything.acts, strict=True)])


def test_counts_means_and_maxima_are_those_of_all_tokens_at_once(statistics, everything):
    dense = _kept(everything)
    fired = dense > 0
    assert statistics.n_tokens == len(dense)
    documents = torch.cat([batch.document[batch.keep] for batch in everything.batches])
    assert statistics.n_documents == documents.unique().numel()
    np.testing.assert_allclose(statistics.density, fired.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.max_activation, dense.max(0).values, rtol=1e-6)
    np.testing.assert_allclose(statistics.mean_activation, dense.sum(0) / fired.sum(0).clamp(min=1), rtol=1e-5)


def test_the_histogram_counts_every_firing_once(statistics, everything):
    dense = _kept(everything).numpy()
    assert (statistics.histogram.sum(1) == (dense > 0).sum(0)).all()
    # What lies below the first bin is counted in it.
    inner = [np.histogram(dense[:, f], bins=statistics.bin_edges)[0] for f in range(dense.shape[1])]
    assert (np.abs(statistics.histogram - inner)[:, 1:-1].sum(1) <= 1).all()


def _examples_by_hand(everything, feature):
    """(value, order, batch, row, position) of each span's first peak, strongest first."""
    found = []
    for number, (batch, acts) in enumerate(zip(everything.batches, everything.acts, strict=True)):
        for row in range(batch.keep.shape[0]):
            peaks: dict[int, tuple[float, int]] = {}
            for place in range(batch.keep.shape[1]):
                value, document = float(acts[row, place, feature]), int(batch.document[row, place])
                if value > 0 and (document not in peaks or value > peaks[document][0]):
                    peaks[document] = value, place
            found += [(value, number, row, place) for value, place in peaks.values()]
    return sorted(found, key=lambda item: -item[0])[:N_EXAMPLES]


def test_top_examples_are_the_strongest_spans(statistics, everything):
    for feature in range(statistics.d_sae):
        expected = _examples_by_hand(everything, feature)
        values = statistics.top.values[feature]
        assert (values[len(expected) :] == 0).all()
        assert (statistics.top.tokens[feature, len(expected) :] == -1).all()
        for slot, (value, number, row, place) in enumerate(expected):
            batch = everything.batches[number]
            assert values[slot] == pytest.approx(value, rel=1e-6)
            assert statistics.top.document[feature, slot] == batch.document[row, place]
            assert statistics.top.position[feature, slot] == batch.position_ids[row, place]


def test_windows_show_the_text_and_the_activations_around_the_peak(statistics, everything):
    for feature in range(statistics.d_sae):
        for slot, (_, number, row, place) in enumerate(_examples_by_hand(everything, feature)):
            batch, acts = everything.batches[number], everything.acts[number]
            tokens, shown = statistics.top.tokens[feature, slot], statistics.top.acts[feature, slot]
            start = place - statistics.top.peak[feature, slot]
            for offset in range(WINDOW):
                at = start + offset
                inside = at < batch.keep.shape[1] and batch.document[row, at] == batch.document[row, place]
                assert tokens[offset] == (batch.token_ids[row, at] if inside else -1)
                assert shown[offset] == pytest.approx(float(acts[row, at, feature]) if inside else 0.0, rel=1e-3)


def test_windows_are_full_where_the_document_is_long_enough(statistics, everything):
    length = {}
    for batch in everything.batches:
        for row in range(batch.keep.shape[0]):
            for document in batch.document[row].unique().tolist():
                length.setdefault(document, []).append(int((batch.document[row] == document).sum()))
    for feature, slot in zip(*np.nonzero(statistics.top.values), strict=True):
        sizes = length[int(statistics.top.document[feature, slot])]
        shown = int((statistics.top.tokens[feature, slot] >= 0).sum())
        assert shown in {min(size, WINDOW) for size in sizes}


def test_firing_tokens_are_the_most_frequent_ones(statistics, everything):
    dense = _kept(everything)
    tokens = torch.cat([batch.token_ids[batch.keep] for batch in everything.batches])
    for feature in range(statistics.d_sae):
        counts = torch.bincount(tokens[dense[:, feature] > 0], minlength=40)
        expected = counts.sort(descending=True, stable=True)
        n = int((counts > 0).sum().clamp(max=5))
        assert statistics.firing_tokens[feature, :n].tolist() == expected.indices[:n].tolist()
        assert (statistics.firing_tokens[feature, n:] == -1).all()
        if n:
            share = expected.values[:n] / counts.sum()
            np.testing.assert_allclose(statistics.firing_token_share[feature, :n], share, rtol=1e-6)


def test_levels_are_the_prefixes(statistics):
    assert levels_of(6, (2, 4, 6)).tolist() == [1, 1, 2, 2, 3, 3]
    assert levels_of(3, (3,)).tolist() == [1, 1, 1]
    assert statistics.level.tolist() == [1] * 6 + [2] * 6 + [3] * 12


def _fields(statistics):
    """Every array and number by name, windows opened."""
    for field in dataclasses.fields(statistics):
        value = getattr(statistics, field.name)
        if field.name in ("top", "random", "quantile"):
            yield from ((f"{field.name}.{name}", getattr(value, name)) for name in type(value).__slots__)
        else:
            yield field.name, value


def assert_same(one, other):
    for (name, was), (_, is_now) in zip(_fields(one), _fields(other), strict=True):
        assert np.array_equal(was, is_now, equal_nan=np.asarray(was).dtype.kind == "f"), name
        assert np.asarray(was).dtype == np.asarray(is_now).dtype, name


def _files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_random_and_quantile_windows_show_firings(statistics, everything):
    dense = {}
    for batch, acts in zip(everything.batches, everything.acts, strict=True):
        for row, place in batch.keep.nonzero().tolist():
            key = int(batch.document[row, place]), int(batch.position_ids[row, place])
            dense.setdefault(key, []).append(acts[row, place].numpy())
    edges = statistics.quantile_edges
    for kind in (statistics.random, statistics.quantile):
        for feature, slot in zip(*np.nonzero(kind.values), strict=True):
            value, key = kind.values[feature, slot], (kind.document[feature, slot], kind.position[feature, slot])
            assert any(acts[feature] == pytest.approx(value, rel=1e-6) for acts in dense[key])
            assert edges[feature, 0] <= value <= edges[feature, -1]
    for band in range(statistics.n_bands):
        values = statistics.band(band).values
        shown = values > 0
        assert (values >= edges[:, band, None])[shown].all()
        assert (values <= edges[:, band + 1, None])[shown].all()
    assert np.array_equal(statistics.near_threshold.values, statistics.band(0).values)


def test_shards_and_blocks_change_nothing(model, sae, stream, statistics):
    whole = collect_features(model, sae, stream, EVERYTHING)
    # A matrix product of other blocks may round the last bit otherwise; nothing else comes from one.
    np.testing.assert_allclose(statistics.neighbour_cosine, whole.neighbour_cosine, rtol=0, atol=1.2e-7)
    assert_same(dataclasses.replace(statistics, neighbour_cosine=whole.neighbour_cosine), whole)


def test_what_was_killed_goes_on_with_the_same_bytes(model, sae, stream, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_TOKENS", 100)
    write_features(model, sae, stream, tmp_path / "whole", EVERYTHING, token_texts=["a"])

    class Killed(Exception):
        pass

    for stage, times in (("features", 3), ("features", 1), ("statistics", 0)):
        calls = iter(range(times))

        def kill(what, _done, _total, stage=stage, calls=calls):
            if what == stage and next(calls, None) is None:
                raise Killed

        with pytest.raises(Killed):
            write_features(model, sae, stream, tmp_path / "cut", EVERYTHING, token_texts=["a"], on_progress=kill)
        assert not (tmp_path / "cut").exists()
        assert (tmp_path / "cut.partial").exists()
    seen = []
    write_features(
        model, sae, stream, tmp_path / "cut", EVERYTHING, token_texts=["a"], on_progress=lambda *told: seen.append(told)
    )
    # The model did not run again.
    assert {what for what, _, _ in seen} == {"statistics"}
    assert _files(tmp_path / "cut") == _files(tmp_path / "whole")
    assert not (tmp_path / "cut.partial").exists()


def test_a_partial_pass_over_something_else_is_not_gone_on_with(model, sae, stream, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_TOKENS", 100)

    def kill(what, _done, _total):
        if what == "statistics":
            raise KeyboardInterrupt

    other = EVERYTHING.model_copy(update={"n_random": 2})
    with pytest.raises(KeyboardInterrupt):
        write_features(model, random_sae("matryoshka", seed=1), stream, tmp_path / "a", other, on_progress=kill)
    found = write_features(model, sae, stream, tmp_path / "a", other)
    assert_same(found.in_memory(), collect_features(model, sae, stream, other))


def test_what_determines_a_pass_is_told_apart(model, tmp_path):
    sae, stream = random_sae("topk", k=2), tiny_stream(tmp_path, model)
    other_k = random_sae("topk", k=8)
    other_k.load_state_dict(sae.state_dict())
    told = [pass_facts(model, each, stream, EVERYTHING) for each in (sae, other_k)]
    told += [pass_facts(model, NormalisedSAE(sae, mode), stream, EVERYTHING) for mode in ("centre", "layer_norm")]
    for change in ({"batch_tokens": 48}, {"text_field": "story"}):
        config = stream.config.model_copy(update=change)
        told.append(pass_facts(model, sae, TokenStream(stream.documents, model, config, split="all"), EVERYTHING))
    assert len({json.dumps(facts, sort_keys=True) for facts in told}) == len(told)
    assert told[0] == pass_facts(model, sae, tiny_stream(tmp_path, model), EVERYTHING)


def test_a_kill_while_statistics_are_made_leaves_nothing_beside_the_folder(model, sae, stream, tmp_path):
    seen = []

    def look(what, _done, _total):
        if what == "statistics":
            seen.append(sorted(path.name for path in tmp_path.iterdir()))

    left = tmp_path / "a.partial" / ".a.0123abcd.tmp"
    left.mkdir(parents=True)
    write_features(model, sae, stream, tmp_path / "a", EVERYTHING, on_progress=look)
    assert seen
    assert all(names == ["a.partial"] for names in seen)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_fewer_tokens_are_fewer(model, sae, stream):
    found = collect_features(model, sae, stream, FeatureSettings(n_tokens=100))
    sizes = [batch.n_kept for batch in islice(stream.iter_pass(), 100)]
    assert 100 <= found.n_tokens <= 100 + max(sizes)


def test_saving_brings_everything_back(tmp_path, statistics):
    save_features(tmp_path / "features", statistics)
    assert_same(statistics, load_features(tmp_path / "features"))


def test_damaged_files_are_named(tmp_path, statistics):
    folder = tmp_path / "features"
    with pytest.raises(ArtifactError, match=r"features\.json"):
        load_features(folder)
    save_features(folder, statistics)
    head = json.loads((folder / "features.json").read_text())
    for change, message in (({"schema_version": 0}, "version"), ({"windows": {"top": 1}}, "windows")):
        (folder / "features.json").write_text(json.dumps({**head, **change}))
        with pytest.raises(ArtifactError, match=message):
            load_features(folder)
    (folder / "features.json").write_text(json.dumps(head))
    for name in ("statistics.safetensors", "windows.bin"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-5])
        with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
            load_features(folder)
        (folder / name).write_bytes(whole)
    del head["n_tokens"]
    (folder / "features.json").write_text(json.dumps(head))
    with pytest.raises(ArtifactError, match="n_tokens"):
        load_features(folder)


def test_another_model_is_refused(model, sae, stream):
    facts = SAEFacts(HOOK, "matryoshka", (24,), model={"name": "other", "content_hash": "0" * 64})
    some = FeatureSettings(n_tokens=100)
    with pytest.raises(ArtifactError, match="trained on"):
        collect_features(model, sae, stream, some, facts=facts)
    collect_features(model, sae, stream, some, facts=facts, allow_mismatch=True)


def test_what_is_not_wanted_is_not_kept(model, sae, stream, tmp_path):
    least = FeatureSettings(
        n_tokens=200, n_top=1, n_random=0, per_band=0, n_bands=1, window=1, n_partners=0, n_neighbours=0,
        n_parents=0, n_children=0,
    )  # fmt: skip
    found = write_features(model, sae, stream, tmp_path / "features", least)
    for name in ("partners", "neighbours", "parents", "children"):
        assert getattr(found, name).shape == (24, 0)
    assert found.random.values.shape == found.quantile.values.shape == (24, 0)
    shown = found.top.tokens[found.top.values > 0]
    assert (shown >= 0).all()
