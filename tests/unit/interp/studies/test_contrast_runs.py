"""Contrasts of files: documents do not see each other whatever the rows of a run; the same texts are no two sets."""

import pytest

from interp.datasets import DataConfig
from interp.errors import ConfigError
from interp.studies.contrast_runs import Source, run_contrast
from tests.families import tiny_model

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def files(tmp_path):
    """Two sets of documents, and the first of them again."""
    texts = {"a": ("w4 w5 w6 w7", "w9 w10", "w11 w12 w13"), "b": ("w14 w15", "w16 w17 w18", "w19 w20 w21")}
    for name, held in {**texts, "again": texts["a"]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(held))
    return [str(tmp_path / f"{name}.txt") for name in ("a", "b", "again")]


def _source(rows):
    model = tiny_model("llama")
    return Source(model, (HOOK,), lambda x: x, model.d_model, DataConfig(context_size=16, rows=rows), {})


def test_documents_never_see_those_before_them(files):
    joined, padded = (run_contrast(_source(rows), tuple(files[:2]), draws=200) for rows in ("joined", "padded"))
    assert joined.rows == padded.rows
    assert joined.provenance["rows"] == "padded"


def test_the_same_texts_under_another_name_are_refused(files):
    with pytest.raises(ConfigError, match="the same texts"):
        run_contrast(_source("padded"), (files[0], files[2]), draws=200)
