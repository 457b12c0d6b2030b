"""Documents through a model: means and peaks are those of each document alone, contexts show the strongest token."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.datasets import DataConfig, open_stream
from interp.errors import ArtifactError, DataError
from interp.hooks import capture
from probes.contrast import Contrast, Evidence, contrast_rows, smallest_p
from probes.document_activations import DocumentActivations, document_activations, strongest_contexts
from tests.families import tiny_model
from tests.texts import write_jsonl

HOOK = "blocks.1.hook_resid_post"
TEXTS = ["w4 w5 w6 w7 w8", "w9", "w10 w11 w12", "w13 w14 w15 w16 w17 w18 w19 w20 w21 w22 w23"]


def _stream(tmp_path, rows="padded"):
    path = str(write_jsonl(tmp_path / "t.jsonl", TEXTS))
    model = tiny_model("llama")
    return model, open_stream(path, model, DataConfig(context_size=8, rows=rows, batch_tokens=32), split="all")


def _alone(model, text):
    """Activations of every row of a document, BOS left out."""
    ids = model.tokenizer(text)["input_ids"]
    pieces = [[model.bos_token_id, *ids[start : start + 7]] for start in range(0, len(ids), 7)]
    return torch.cat([capture(model, torch.tensor([piece]), [HOOK])[HOOK][0, 1:] for piece in pieces])


def test_means_and_peaks_are_those_of_each_document_alone(tmp_path):
    model, stream = _stream(tmp_path)
    found = document_activations(model, stream, [HOOK], torch.relu)
    assert found.document.tolist() == [0, 1, 2, 3]
    assert found.n_tokens.tolist() == [5, 1, 3, 11]
    for row, text in enumerate(TEXTS):
        acts = torch.relu(_alone(model, text))
        assert found.mean[row] == pytest.approx(acts.mean(0).numpy(), abs=1e-5)
        assert found.peak[row] == pytest.approx(acts.max(0).values.numpy(), abs=1e-5)


@pytest.mark.parametrize("rows", ["padded", "packed"])
def test_contexts_show_the_strongest_token_of_each_document(tmp_path, rows):
    model, stream = _stream(tmp_path, rows)
    activations = document_activations(model, stream, [HOOK], lambda x: x)
    for feature, contexts in strongest_contexts(model, stream, [HOOK], lambda x: x, [3, 7], n=2).items():
        peaks = activations.peak[:, feature]
        assert [one.document for one in contexts] == np.argsort(-peaks)[:2].tolist()
        for one in contexts:
            assert one.value == pytest.approx(peaks[one.document], abs=1e-5)
            assert one.acts[one.peak] == pytest.approx(one.value)
            words = model.tokenizer.convert_ids_to_tokens(list(one.token_ids))
            assert set(words) - {"<s>"} <= set(TEXTS[one.document].split())


def _activations(values):
    values = np.asarray(values, dtype=np.float64)
    n = values.shape[0]
    return DocumentActivations(values, 2 * values, np.arange(n), np.full(n, 3))


def _two_sides(seed=0):
    draw = np.random.default_rng(seed)
    a, b = (draw.random((20, 6)) * (draw.random((20, 6)) < 0.5) for _ in range(2))
    a[:, 2] += 1.0
    b[:, 4] += 1.0
    a[:, 5], b[:, 5] = 0, 0
    b[:2, 5] = 0.4
    return _activations(a), _activations(b)


def test_planted_features_come_first_with_their_direction():
    a, b = _two_sides()
    rows = contrast_rows(a, b, most_draws=2000)
    assert {row.feature for row in rows[:2]} == {2, 4}
    by_feature = {row.feature: row for row in rows}
    assert by_feature[2].d_mean > 1 > -1 > by_feature[4].d_mean
    assert by_feature[2].auc_mean > 0.9
    assert by_feature[4].auc_max < 0.1
    assert all(row.q <= 0.05 for row in rows[:2])
    assert all(row.q > 0.05 for row in rows[2:])
    assert (by_feature[2].share_a, by_feature[4].share_b) == (1.0, 1.0)
    # It fires in two documents, fewer than three.
    assert 5 not in by_feature


def test_sides_changed_change_signs_alone():
    a, b = _two_sides()
    one, two = (contrast_rows(*sides, most_draws=1000) for sides in ((a, b), (b, a)))
    mirrored = {row.feature: row for row in two}
    for row in one:
        other = mirrored[row.feature]
        assert (row.d_mean, 1 - row.auc_max, row.share_a) == pytest.approx(
            (-other.d_mean, other.auc_max, other.share_b)
        )


def test_too_little_is_told():
    a, b = _two_sides()
    one = replace(a, mean=a.mean[:1], peak=a.peak[:1], document=a.document[:1], n_tokens=a.n_tokens[:1])
    with pytest.raises(DataError, match="at least two on each side"):
        contrast_rows(one, b)
    with pytest.raises(DataError, match="no feature that fires in 50"):
        contrast_rows(a, b, least_documents=50)


def test_results_last(tmp_path):
    model, stream = _stream(tmp_path)
    contexts = strongest_contexts(model, stream, [HOOK], lambda x: x, [3], n=1)
    a, b = _two_sides()
    rows = tuple(contrast_rows(a, b, most_draws=500))
    rows = (replace(rows[0], auc_interval=(0.8, 1.0)), replace(rows[1], d_mean=math.nan), *rows[2:])
    evidence = (Evidence(3, tuple(contexts[3]), ()),)
    found = Contrast(
        ("a<b>.txt", "b.txt"), (20, 20), (60, 60), "mean", 6, rows, smallest_p(a, b), evidence, {4: "w4"}, {"seed": 0}
    )
    found.save(tmp_path / "c.json")
    again = Contrast.load(tmp_path / "c.json")
    assert again.to_json() == found.to_json()
    assert again.evidence == found.evidence
    assert math.isnan(again.rows[1].d_mean)
    assert again.vocabulary == {4: "w4"}
    assert again.n_discoveries == 2
    assert "a&lt;b&gt;.txt" in again._repr_html_()
    assert not again.is_too_small
    assert replace(again, least_p=0.1).is_too_small
    for text, says in (("[]", "is no contrast"), (json.dumps({"kind": "contrast", "schema_version": 1}), "damaged")):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ArtifactError, match=says):
            Contrast.load(tmp_path / "c.json")


def test_a_feature_that_never_fires_has_no_contexts(tmp_path):
    model, stream = _stream(tmp_path)
    assert strongest_contexts(model, stream, [HOOK], lambda x: torch.relu(x) * 0, [0], n=2) == {0: []}
