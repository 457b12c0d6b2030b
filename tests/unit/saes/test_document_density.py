import numpy as np
import pytest
import torch

from interp.code import Code
from saes import document_density
from saes.document_density import DensityByDocument
from saes.metrics import document_bootstrap, share_unexplained


def _filled(dense, document, *, parts=1):
    density = DensityByDocument(dense.shape[1])
    for acts, documents in zip(dense.tensor_split(parts), document.tensor_split(parts), strict=True):
        density.add(Code.from_dense(acts), documents)
    return density


def _correlated(n_documents, n_tokens):
    """Whole documents in which feature 0 fires on half of the tokens, among others in which it never does."""
    on = torch.rand(n_documents) < 0.2
    dense = (torch.rand(n_documents, n_tokens) < 0.5) & on[:, None]
    document = torch.arange(n_documents).repeat_interleave(n_tokens)
    return dense.float().reshape(-1, 1), document


def test_density_is_the_share_of_tokens():
    dense = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.5, 0.0]])
    density = _filled(dense, torch.tensor([0, 0, 1, 1]))
    assert density.density().tolist() == [0.75, 0.0]
    assert density.n_documents == 2


def test_the_interval_is_the_bootstraps():
    dense, document = _correlated(400, 10)
    low, high = _filled(dense, document).interval()[0].tolist()
    table = np.stack([dense.reshape(400, 10).sum(1).numpy(), np.full(400, 10.0)], axis=1)
    expected = document_bootstrap(table, share_unexplained, seed=0, n_resamples=4000)
    # One is symmetric on the logarithm, the other takes percentiles: they agree to a tenth of their width.
    width = expected[1] - expected[0]
    assert low == pytest.approx(expected[0], abs=width / 10)
    assert high == pytest.approx(expected[1], abs=width / 10)


def test_closing_documents_early_changes_nothing(monkeypatch):
    dense, document = _correlated(60, 8)
    whole = _filled(dense, document)
    monkeypatch.setattr(document_density, "OPEN_DOCUMENTS", 12)
    monkeypatch.setattr(document_density, "KEPT_OPEN", 6)
    # Batches of up to 20 documents, more than stand open at once, and rows of a document in two batches.
    for parts in (3, 7, 90):
        again = _filled(dense, document, parts=parts)
        assert again.n_documents == whole.n_documents == 60
        torch.testing.assert_close(again.density(), whole.density(), rtol=1e-12, atol=0)
        torch.testing.assert_close(again.interval(), whole.interval(), rtol=1e-9, atol=0)


def test_a_feature_that_never_fired_may_still_be_rare():
    interval = _filled(torch.zeros(300, 2), torch.arange(300)).interval()
    assert interval[0].tolist() == [0.0, 0.01]


def test_one_document_says_nothing():
    assert _filled(torch.ones(5, 1), torch.zeros(5, dtype=torch.int64)).interval().tolist() == [[0.0, 1.0]]
