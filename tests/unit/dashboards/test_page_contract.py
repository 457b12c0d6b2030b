"""What the page is told: complete, in plain JSON, and the same after packing and unpacking."""

import base64
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import bundle
from dashboards.contract import CONTRACT_VERSION, look_up, summary
from dashboards.feature_contract import draw_sample, feature_records, feature_table, five_digits, used_tokens
from dashboards.packing import (
    as_json,
    contexts_per_feature,
    merge_contexts,
    pack_features,
    pack_json,
)
from dashboards.run_record import load_run, read_metrics
from dashboards.show import show
from interp.errors import ArtifactError, ConfigError
from tests.invented_run import make_run


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
        "k": 32, "n_training_tokens": 2000 * 2048, "notes": [],
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


def test_a_run_that_was_only_begun_is_told_as_not_measured(tmp_path):
    folder = make_run(tmp_path / "begun")
    for name in ("evaluation.json", "metrics.jsonl", "features/features.json", "features/features.safetensors"):
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


def test_unpacking_gives_the_contexts_back(run):
    packed = dict(pack_features(run.statistics, limit=5))
    text = [token for name, block in packed.items() if name.startswith("text/") for token in block]
    records = [record for name, chunk in packed.items() if name.startswith("features/") for record in chunk]
    assert records[7]["id"] == 7
    unpacked = [
        record | {"contexts": [_unpacked(context, text) for context in record["contexts"]]} for record in records
    ]
    whole = feature_records(run.statistics, range(64), n_contexts=5)
    assert json.loads(as_json(unpacked)) == json.loads(as_json(whole))
    assert len(text) < sum(len(context["tokens"]) for record in whole for context in record["contexts"])


def _unpacked(context, text):
    tokens = text[context["at"] : context["at"] + context["n"]]
    return {key: value for key, value in context.items() if key not in ("at", "n")} | {"tokens": tokens}


def test_contexts_agree_with_the_statistics(run):
    statistics = run.statistics
    feature = int(np.argmax(statistics.density))
    (record,) = feature_records(statistics, [feature], n_contexts=3)
    for rank, context in enumerate(record["contexts"]):
        assert context["value"] == pytest.approx(float(statistics.top_values[feature, rank]), rel=1e-4)
        assert context["tokens"] == statistics.top_tokens[feature, rank].tolist()
        peak = dict(context["fired"])[context["peak"]]
        assert peak == pytest.approx(context["value"], rel=1e-3)
        assert set(context["tokens"]) <= set(used_tokens(statistics).tolist())


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 8), st.booleans()), max_size=20
    )
)  # fmt: skip
def test_merged_text_holds_every_context(drawn):
    documents = np.random.default_rng(0).integers(0, 3, (3, 40)).tolist()
    contexts = [
        {
            "document": document, "position": begin + n - 1, "peak": n - 1,
            # The same positions of a document may hold other text: a later piece of it.
            "tokens": documents[(document + other) % 3][begin : begin + n],
        }
        for document, begin, n, other in drawn
    ]  # fmt: skip
    text, starts = merge_contexts(contexts)
    for context, start in zip(contexts, starts, strict=True):
        assert text[start : start + len(context["tokens"])] == context["tokens"]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=20))
def test_five_digits_keep_five_digits(values):
    for value, kept in zip(values, five_digits(np.array(values, dtype=np.float64)), strict=True):
        assert (kept is None) == (not np.isfinite(value))
        assert kept is None or kept == pytest.approx(value, rel=5.1e-5)


def test_packed_json_unpacks_and_repeats():
    value = {"text": "</script>\u2028é\ud83d", "n": [1, 2.5, None]}
    packed = pack_json(value)
    assert json.loads(gzip.decompress(base64.b64decode(packed))) == value
    assert pack_json(value) == packed
    assert "<" not in as_json(value)
    assert as_json(value).isascii()


def test_large_dictionaries_show_fewer_contexts_each():
    assert [contexts_per_feature(n) for n in (1_024, 4_096, 16_384, 65_536, 262_144)] == [128, 32, 8, 2, 2]


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


def test_the_bundle_is_one_script_that_cannot_end_its_element():
    script = bundle.script()
    assert "</script" not in script.lower() + bundle.styles().lower()
    assert "<!--" not in script
    assert not [line for line in script.splitlines() if line.startswith(("import ", "export "))]


def test_modules_of_the_page_stay_small():
    folder = bundle.files("dashboards").joinpath("web")
    modules = [path for path in folder.iterdir() if path.name.endswith((".js", ".css"))]
    assert all(f"module_{path.name[:-3]} " in bundle.script() for path in modules if path.name.endswith(".js"))
    assert {path.name for path in modules if path.name.endswith(".css")} == set(bundle.STYLES)
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in modules) < 400


def test_show_gives_figures_and_a_table(tmp_path, run):
    view = show(make_run(tmp_path / "<b>run"))
    assert set(view.figures) == {
        "density", "prefixes", "loss", "variance", "l0", "dead", "schedule", "throughput",
    }  # fmt: skip
    assert "&lt;b&gt;run" in view._repr_html_()
    assert "0.861" in view._repr_html_()
    assert show(run.statistics).data
    assert show(run.metrics).data
    with pytest.raises(ConfigError, match="got a int"):
        show(3)
