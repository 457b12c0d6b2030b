"""What the page is told: complete, in plain JSON, and the same after packing and unpacking."""

import base64
import gzip
import json
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from dashboards import analysis_page, bundle, circuit_page, lens_page, report, shown
from dashboards.contract import CONTRACT_VERSION, look_up, summary
from dashboards.feature_contract import draw_sample, feature_table, has_levels, token_index, tree, tree_parents
from dashboards.never_fired import never_fired
from dashboards.packing import as_json, pack_json
from dashboards.page import render
from dashboards.provenance import essentials, footer
from dashboards.run_record import load_run, read_metrics
from dashboards.show import show
from dashboards.tokens import VOCABULARY_FILE
from interp.errors import ArtifactError, ConfigError
from interp.runs import RunFolder
from saes.feature_files import load_features
from saes.feature_index import write_index
from saes.feature_store import FeatureStore
from tests.invented_run import collected_from, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(make_run(tmp_path_factory.mktemp("runs") / "invented"))


@pytest.fixture(scope="module")
def told(run):
    return summary(run, sample_seed=3, figures=["density"])


def test_the_summary_answers_what_it_is_and_whether_it_is_any_good(told):
    assert told["contract_version"] == CONTRACT_VERSION
    assert told["subject"] | {"notes": []} == {
        "model": "embedded", "hook": "blocks.2.hook_resid_post", "architecture": "Matryoshka BatchTopK", "d_sae": 64,
        "k": 32, "n_training_tokens": 2000 * 2048, "notes": [], "called": "Matryoshka BatchTopK SAE",
    }  # fmt: skip
    values = {row["label"]: [cell["value"] for cell in row["cells"]] for row in told["quality"]["rows"]}
    assert told["quality"]["arms"] == ["this SAE", "random model", "frozen decoder"]
    assert values["explained variance (EV)"] == [0.861, 0.774, 0.522]
    assert values["ΔCE"] == [0.109, 0.011, 0.84]
    assert values["loss recovered, against zeros"] == [0.978, None, 0.83]
    assert values["dense features"] == [0.004, None, None]
    assert values["EV without 512 high-norm tokens"] == [0.848, None, None]
    assert told["quality"]["rows"][0]["cells"][0]["interval"] == [0.852, 0.869]


def test_the_summary_tells_where_the_run_comes_from(told):
    essentials = dict(told["essentials"])
    assert essentials["model hash"] == "5b1f" * 16
    assert essentials["masked"] == "padding, beginning-of-sequence token, special tokens"
    assert essentials["split"] == "by document hash, heldout share 0.05, used train"
    assert told["command"] == "interp train configs/quickstart.yaml --out runs/invented"
    assert [group["title"] for group in told["provenance"]][:3] == ["Run", "Model", "Data"]
    assert told["config"].startswith("model: embedded")


def test_each_count_of_dead_features_names_its_text(run):
    rows = {row["key"]: row for row in never_fired(run)["rows"]}
    dead = int((run.statistics.density == 0).sum())
    assert rows["features"] == {
        "key": "features", "text": "list of features: the run's training text", "n_tokens": 200_000, "n": dead,
        "share": dead / 64,
    }  # fmt: skip
    assert rows["evaluation"]["text"] == "evaluation: the run's held-out split"
    assert (rows["evaluation"]["n_tokens"], rows["evaluation"]["n"]) == (98_304, 2)
    assert "training" not in rows
    settings = run.config | {"sae": run.config["sae"] | {"dead_share": 0.05}, "tokens": 300_000}
    told = {row["key"]: row for row in never_fired(replace(run, config=settings))["rows"]}["training"]
    assert (told["text"], told["n_tokens"]) == ("training: its last 5% of tokens", 15_000)
    assert told["n"] == run.metrics[-1]["dead"]


def test_one_thread_is_singular(run):
    for threads, words in ((1, "1 thread"), (2, "2 threads")):
        hardware = {"processor": "CPU", "threads": threads}
        told = replace(run, manifest=run.manifest.model_copy(update={"hardware": hardware}))
        assert dict(essentials(told))["hardware"] == f"CPU, {words}"


def test_a_run_that_was_only_begun_is_told_as_not_measured(tmp_path):
    folder = make_run(tmp_path / "begun")
    for name in ("evaluation.json", "metrics.jsonl"):
        (folder / name).unlink()
    for leftover in (folder / "features").iterdir():
        leftover.unlink()
    (folder / "features").rmdir()
    told = summary(load_run(folder), sample_seed=0, figures=[])
    assert (told["quality"], told["features"], told["prefixes"]) == (None, None, None)
    assert all(cell["value"] is None for cell in told["headline"])


def test_null_arms_name_themselves(run):
    arm = replace(run, config=run.config | {"freeze_decoder": True, "randomise_model": 4})
    notes = summary(arm, sample_seed=0, figures=[])["subject"]["notes"]
    assert len(notes) == 2
    assert "seed 4" in notes[1]


def test_a_codebook_is_named_by_its_variant(run):
    sae = {"architecture": "codebook", "codebook_variant": "residual", "k": 8}
    told = summary(replace(run, config=run.config | {"sae": sae}), sample_seed=0, figures=[])["subject"]
    assert (told["architecture"], told["k"]) == ("Residual codebook", 8)
    sae = {"architecture": "topk", "codebook_variant": "residual", "k": 8}
    told = summary(replace(run, config=run.config | {"sae": sae}), sample_seed=0, figures=[])["subject"]
    assert told["architecture"] == "TopK"


@pytest.mark.parametrize(
    ("config", "results", "called"),
    [
        ({"sae": {"architecture": "topk"}}, {}, "TopK SAE"),
        ({"sae": {"architecture": "codebook", "codebook_variant": "plain"}}, {}, "Plain codebook"),
        ({"sae": {"architecture": "topk"}, "hook": "a", "hook_out": "b"}, {}, "TopK transcoder"),
        ({"sae": {"architecture": "topk"}, "hook": "a", "more_hooks": ["b"]}, {}, "TopK crosscoder"),
        ({"sae": {"architecture": "topk"}}, {"architecture": "PCA", "baseline": "pca"}, "PCA baseline"),
        ({}, {}, "sparse autoencoder"),
    ],
)
def test_only_an_sae_is_called_one(run, config, results, called):
    other = replace(run, config=config, manifest=run.manifest.model_copy(update={"results": results}))
    told = summary(other, sample_seed=0, figures=[])
    assert told["subject"]["called"] == called
    what = "SAE" if called == "sparse autoencoder" else called.split()[-1]
    assert told["quality"]["arms"][0] == f"this {what}"
    assert f"<title>{run.name}: {what} report</title>" in render(other, window_budget=1)


def test_the_sample_is_drawn_by_seed_from_those_that_fire(run, told):
    alive = np.flatnonzero(run.statistics.density > 0)
    ids = told["features"]["sample"]["ids"]
    assert ids == draw_sample(alive, 3) != draw_sample(alive, 4)
    assert len(set(ids)) == 30
    assert set(ids) <= set(alive.tolist())
    assert sorted(draw_sample(alive[:7], 0)) == sorted(alive[:7].tolist())


def test_the_table_has_a_value_for_every_feature(run):
    table = feature_table(run.statistics)
    assert all(len(column["values"]) == table["n"] == 64 for column in table["columns"])
    assert table["columns"][0]["key"] == "level"


def test_a_readers_labels_are_columns(run):
    table = feature_table(run.statistics, {3: ("first names", "after once upon a time"), 5: ("dogs", "")})
    columns = {column["key"]: column for column in table["columns"]}
    assert columns["label"]["values"][3:6] == ["first names", None, "dogs"]
    assert columns["note"]["values"][3:6] == ["after once upon a time", None, None]
    assert (columns["label"]["listed"], columns["note"]["listed"]) == (True, False)
    assert not {"label", "note"} & {column["key"] for column in feature_table(run.statistics)["columns"]}


def test_dead_features_have_no_maximum_and_no_auc(run):
    columns = {column["key"]: column["values"] for column in feature_table(run.statistics)["columns"]}
    dead = np.flatnonzero(run.statistics.density == 0)
    assert dead.size
    for key in ("max", "mean", "top_token", "detection_auc", "token_auc", "bigram_auc", "lift"):
        assert {columns[key][feature] for feature in dead} == {None}


def test_a_crosscoders_features_tell_their_share_at_each_hook(run):
    share = np.tile(np.float32([0.25, 0.75]), (64, 1))
    table = feature_table(replace(run.statistics, hook_share=share))
    columns = {column["key"]: column["values"] for column in table["columns"]}
    assert (columns["hook_1"], columns["hook_2"]) == ([0.25] * 64, [0.75] * 64)
    assert "hook_1" not in {column["key"] for column in feature_table(run.statistics)["columns"]}


def test_the_tree_has_every_edge_with_each_childs_strongest_parent_first(run):
    s, edges = run.statistics, tree(run.statistics)
    pairs = list(zip(edges["child"], edges["parent"], strict=True))
    assert pairs == [(child, int(parent)) for child in range(64) for parent in s.parents[child] if parent >= 0]
    assert all(s.level[parent] < s.level[child] for child, parent in pairs)
    children = next(column for column in feature_table(s)["columns"] if column["key"] == "children")["values"]
    assert sum(children) == len(tree_parents(s)) == int((s.parents[:, 0] >= 0).sum())
    weak = replace(s, parent_given_feature=np.full_like(s.parent_given_feature, 0.49))
    assert len(tree_parents(weak)) == 0
    assert len(edges["cosine"]) == len(edges["parent_given_child"]) == len(edges["child_given_parent"]) == len(pairs)
    flat = replace(s, level=np.ones_like(s.level))
    assert has_levels(s)
    assert not has_levels(flat)
    assert "level" not in [column["key"] for column in feature_table(flat)["columns"]]


def test_the_token_index_turns_the_firing_tokens_round(run):
    s, index = run.statistics, token_index(run.statistics)
    turned = {(f, t) for t, features in zip(index["ids"], index["features"], strict=True) for f in features}
    assert turned == {(f, int(t)) for f in range(64) for t in s.firing_tokens[f] if t >= 0}
    assert all(shares == sorted(shares, reverse=True) for shares in index["shares"])


def test_the_foot_of_the_page_names_model_data_seed_and_source(run, told):
    assert dict(told["footer"])["model"] == "embedded 5b1f5b1f5b1f"
    assert dict(told["footer"])["data"] == "embedded, train 90ce90ce90ce"
    assert [label for label, _ in told["footer"]] == ["model", "data", "seed", "commit"]


def test_features_collected_on_other_text_name_it(tmp_path, run):
    folder = make_run(tmp_path / "other")
    other = {"dataset": "/data/letters.jsonl", "content_hash": "0ab1" * 16, "split": {"used": "all"}}
    collected_from(folder / "features", other)
    told = summary(load_run(folder), sample_seed=0, figures=[])
    assert dict(told["footer"])["data"] == "embedded, train 90ce90ce90ce"
    assert dict(told["footer"])["features from"] == "letters.jsonl, all 0ab10ab10ab1"
    assert dict(told["essentials"])["features from"] == "letters.jsonl, all 0ab10ab10ab1"
    (group,) = [group for group in told["provenance"] if group["title"] == "Features"]
    lines = dict(group["lines"])
    assert (lines["data, content hash"], lines["sae, content hash"]) == ("0ab1" * 16, "77aa" * 16)
    assert dict(footer(replace(run, collected={})))["features from"] == "not recorded"
    assert "features from" not in dict(footer(replace(run, collected={}, statistics=None)))


def test_labels_are_read_without_reading_the_statistics_again(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "labelled") / "features"
    write_index(folder, load_features(folder), np.zeros((64, 0, 32), dtype=np.int64), [])
    FeatureStore.open(folder).set_label(3, label="dogs", note="and Spot")
    monkeypatch.delattr("saes.feature_store.load_features")
    assert load_run(folder.parent).labels == {3: ("dogs", "and Spot")}


def test_a_report_writes_the_token_texts_that_an_interrupted_pass_left_out(tmp_path, monkeypatch):
    run = RunFolder.open(make_run(tmp_path / "halved"))
    (run.features / VOCABULARY_FILE).unlink()
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    model = SimpleNamespace(tokenizer=PreTrainedTokenizerFast(tokenizer_object=words))
    monkeypatch.setattr(report, "open_run", lambda *_, **__: SimpleNamespace(model=model))
    report.report_run(run.path)
    assert load_run(run.path).token_texts == ["a", "b"]


def test_packed_json_unpacks_and_repeats():
    value = {"text": "</script>\u2028é\ud83d", "n": [1, 2.5, None]}
    packed = pack_json(value)
    assert json.loads(gzip.decompress(base64.b64decode(packed))) == value
    assert pack_json(value) == packed
    assert "<" not in as_json(value)
    assert as_json(value).isascii()


def test_look_up_follows_nested_and_flat_names():
    assert look_up({"ce": {"delta": 1}}, "ce.delta") == 1
    assert look_up({"ce_delta": 2}, "ce.delta") == 2
    assert look_up({"kl": 3}, "ce.kl") == 3
    assert look_up({"ce": None}, "ce.kl") is None


def test_metrics_skip_only_the_line_being_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]
    path.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(ArtifactError, match="line 1"):
        read_metrics(path)


PAGES = {
    analysis_page.ENTRY: analysis_page.STYLES,
    bundle.ENTRY: bundle.STYLES,
    circuit_page.ENTRY: circuit_page.STYLES,
    lens_page.ENTRY: lens_page.STYLES,
    bundle.WATCH_ENTRY: bundle.WATCH_STYLES,
    bundle.SWEEP_ENTRY: bundle.SWEEP_STYLES,
}


def test_the_bundle_is_one_script_that_cannot_end_its_element():
    script = "".join(bundle.script(entry) for entry in PAGES)
    assert "</script" not in (script + "".join(bundle.styles(names) for names in PAGES.values())).lower()
    assert "<!--" not in script
    assert not [line for line in script.splitlines() if line.startswith(("import ", "export "))]


ALONE = {"probes.js", "probes.css"}
"""A page that needs none of the shared modules."""


def test_modules_of_the_page_stay_small():
    folder = bundle.files("dashboards").joinpath("web")
    modules = [path for path in folder.iterdir() if path.name.endswith((".js", ".css"))]
    scripts = "".join(bundle.script(entry) for entry in PAGES)
    shared = [path.name for path in modules if path.name not in ALONE]
    assert all(f"module_{name[:-3]} " in scripts for name in shared if name.endswith(".js"))
    styles = {name for names in PAGES.values() for name in names}
    assert {name for name in shared if name.endswith(".css")} == styles
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in modules) < 400


def test_show_gives_figures_and_a_table(tmp_path, run):
    view = show(make_run(tmp_path / "<b>run"))
    assert set(view.figures) == {
        "density", "prefixes", "loss", "variance", "l0", "dead", "schedule", "throughput", "timeline", "map",
    }  # fmt: skip
    alive = int(np.argmax(run.statistics.density))
    assert int(np.sum(view.activations(alive).data[0].y)) == int(run.statistics.histogram[alive].sum())
    with pytest.raises(ConfigError, match="interp features"):
        replace(view, run=replace(run, statistics=None)).activations(alive)
    assert "&lt;b&gt;run" in view._repr_html_()
    assert "0.861" in view._repr_html_().split("<iframe")[0]
    assert show(run.statistics).data
    assert show(run.metrics).data
    with pytest.raises(ConfigError, match="got a int"):
        show(3)


def test_every_kind_of_result_that_is_shown_exists():
    for kind, (view, name) in shown._VIEWS.items():
        module, _, result = kind.rpartition(".")
        assert isinstance(getattr(import_module(module), result), type), kind
        assert callable(getattr(import_module(f"dashboards.{view}"), name)), view
