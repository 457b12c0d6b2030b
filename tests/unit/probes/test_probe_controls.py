"""Control tasks and baselines on planted data: what is read, what is memorised, what is not there."""

import numpy as np
import pytest
import torch

from probes.controls import control_labels, majority_right, selectivity, task_control, token_counts, token_right
from probes.intervals import cluster_interval, mean_of
from probes.linear import fit_logistic_path
from probes.probe_activations import ProbeData
from probes.probe_labels import LabelledText
from probes.probe_tasks import inner_split, overlap, task_of

N_WORDS, N_DOCUMENTS, WIDTH = 60, 80, 40


def _data(acts, y, *, word, document, n_classes=2):
    n = y.size
    return ProbeData(
        acts={"hook": torch.as_tensor(acts, dtype=torch.float32)},
        classes={"kind": tuple("abcdef"[:n_classes])},
        labels={"kind": y},
        word=word,
        document=document,
        text=np.arange(n),
        word_held_out=word % 3 == 0,
        document_held_out=document % 4 == 0,
        own=[[int(w)] for w in word],
        around=[[] for _ in range(n)],
    )


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def _places(draw, n=1600):
    return draw.integers(0, N_WORDS, n), draw.integers(0, N_DOCUMENTS, n)


def _measured(data):
    task = task_of(data, "kind", "document")
    inner = inner_split(data, task)
    x = data.acts["hook"].numpy()
    right = {}
    for name, y in (("task", task.y), ("control", task_control(data, task))):
        fit = fit_logistic_path(x[task.train], y[task.train], inner, n_classes=len(task.classes))
        right[name] = fit.probe.right(x[task.test], y[task.test])
    return task, selectivity(right["task"], right["control"], data.document[task.test])


def test_a_words_control_label_is_the_same_everywhere_and_drawn_as_often_as_the_classes_are():
    word = np.repeat(np.arange(5000), 2)
    y = np.random.default_rng(1).choice(3, size=800, p=[0.6, 0.3, 0.1])
    labels = control_labels(word, y, n_classes=3, seed=4)
    assert (labels[::2] == labels[1::2]).all()
    np.testing.assert_allclose(np.bincount(labels) / labels.size, np.bincount(y) / y.size, atol=0.03)
    assert (control_labels(word, y, n_classes=3, seed=5) != labels).any()


def test_a_planted_signal_is_selective(draw):
    word, document = _places(draw)
    y = draw.integers(0, 2, word.size)
    acts = draw.normal(size=(word.size, WIDTH))
    acts[:, 0] += 6 * y - 3
    _, found = _measured(_data(acts, y, word=word, document=document))
    assert found.accuracy.value > 0.98
    assert found.control.value < 0.62
    assert found.selectivity.interval[0] > 0.35
    assert found.selectivity.value == pytest.approx(found.accuracy.value - found.control.value)


def test_what_only_tells_words_apart_is_not_selective(draw):
    word, document = _places(draw)
    acts = draw.normal(size=(N_WORDS, 200))[word] + 0.1 * draw.normal(size=(word.size, 200))
    # The task follows the word, as the control does.
    y = draw.integers(0, 2, N_WORDS)[word]
    _, found = _measured(_data(acts, y, word=word, document=document))
    assert found.accuracy.value > 0.98
    assert found.control.value > 0.98
    assert found.selectivity.interval[0] <= 0.0 <= found.selectivity.interval[1] or abs(found.selectivity.value) < 0.01
    # On new words the same activations tell nothing.
    data = _data(acts, y, word=word, document=document)
    new, inner = task_of(data, "kind", "word"), inner_split(data, task_of(data, "kind", "word"))
    x = data.acts["hook"].numpy()
    fit = fit_logistic_path(x[new.train], new.y[new.train], inner, n_classes=2)
    assert fit.probe.right(x[new.test], new.y[new.test]).mean() < 0.75


def test_on_noise_nothing_is_found(draw):
    word, document = _places(draw, 2400)
    y = draw.integers(0, 2, word.size)
    data = _data(draw.normal(size=(word.size, WIDTH)), y, word=word, document=document)
    task, found = _measured(data)
    assert found.accuracy.interval[0] < 0.53
    assert found.selectivity.interval[0] < 0 < found.selectivity.interval[1]
    majority = cluster_interval(mean_of(majority_right(task)), document[task.test])
    assert abs(found.accuracy.value - majority.value) < 0.06


def test_tokens_tell_what_follows_the_word_and_only_of_words_that_were_trained_on(draw):
    word, document = _places(draw)
    y = draw.integers(0, 2, N_WORDS)[word]
    data = _data(draw.normal(size=(word.size, 2)), y, word=word, document=document)
    known, new = task_of(data, "kind", "document"), task_of(data, "kind", "word")
    assert token_right(data, known, inner_split(data, known)).mean() == 1.0
    _, counts = token_counts(data, new)
    assert counts.sum() == 0
    right = token_right(data, new, inner_split(data, new))
    # Every new word gets the same answer.
    assert right.mean() in (np.mean(new.y[new.test] == 0), np.mean(new.y[new.test] == 1))


def test_the_two_splits_share_what_they_say_they_share(draw):
    word, document = _places(draw)
    y = draw.integers(0, 2, word.size)
    data = _data(np.zeros((word.size, 1)), y, word=word, document=document)
    texts = [LabelledText(f"text {index}", str(d), ()) for index, d in enumerate(document)]
    by_document, by_word = (overlap(data, texts, task_of(data, "kind", split)) for split in ("document", "word"))
    assert by_document["n_shared_documents"] == by_word["n_shared_documents"] == 0
    assert by_document["n_shared_words"] == N_WORDS
    assert by_document["share_of_test_with_a_trained_word"] == 1.0
    assert by_word["n_shared_words"] == 0
    assert by_word["share_of_test_with_a_trained_word"] == 0.0
    assert by_word["n_train_words"] == 40
    assert by_word["n_test_words"] == 20
    for split in ("document", "word"):
        task = task_of(data, "kind", split)
        inner = inner_split(data, task)
        assert not (inner.fit & inner.validate).any()
        units = data.document[task.train]
        assert not set(units[inner.fit]) & set(units[inner.validate])
        if split == "word":
            words = word[task.train]
            assert not set(words[inner.fit]) & set(words[inner.validate])


def test_classes_with_too_few_examples_are_dropped_and_counted(draw):
    word, document = _places(draw)
    y = draw.integers(0, 2, word.size)
    y[:5] = 2
    data = _data(np.zeros((word.size, 1)), y, word=word, document=document, n_classes=3)
    task = task_of(data, "kind", "document")
    assert task.classes == ("a", "b")
    assert task.dropped == {"c": 5}
    assert (task.y[:5] == -1).all()
    assert not np.isin(np.arange(5), np.concatenate([task.train, task.test])).any()
    y[:] = 0
    assert task_of(_data(np.zeros((word.size, 1)), y, word=word, document=document), "kind", "document") is None
