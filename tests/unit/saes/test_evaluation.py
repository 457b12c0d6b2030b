import json
from dataclasses import replace

import pytest
import torch

from interp.activations.harvest import harvest_batch
from interp.datasets import DataConfig, MaskPolicy, open_stream
from interp.errors import ArtifactError, DataError, ShapeError, UnknownHookError
from saes.evaluation import Evaluation, evaluate
from saes.facts import SAEFacts
from saes.metrics import VarianceSums
from tests.families import tiny_model, tiny_tokens
from tests.specimens import HOOK, constant_sae, perfect_sae, random_sae, tiny_stream
from tests.texts import write_jsonl

EVERYTHING = 10**6


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture
def stream(tmp_path, model):
    return tiny_stream(tmp_path, model)


def _acts(model, stream, hook=HOOK):
    return torch.cat([harvest_batch(model, batch, (hook,)).acts[hook] for batch in stream.iter_pass()])


def test_a_perfect_reconstruction_costs_nothing(model, stream):
    result = evaluate(model, perfect_sae(), stream, n_tokens=EVERYTHING)
    assert result.explained_variance == 1.0
    assert result.ce.sae == pytest.approx(result.ce.clean, abs=1e-6)
    assert result.ce.recovered_vs_zero == pytest.approx(1.0, abs=1e-6)
    assert result.ce.recovered_vs_mean == pytest.approx(1.0, abs=1e-6)
    assert result.ce.kl == pytest.approx(0.0, abs=1e-6)
    assert result.l0 == 16.0


def test_an_sae_that_gives_zero_is_the_zero_ablation(model, stream):
    result = evaluate(model, constant_sae(torch.zeros(16)), stream, n_tokens=EVERYTHING)
    assert result.ce.sae == result.ce.zero
    assert result.ce.recovered_vs_zero == 0.0
    assert result.dead_share == 1.0
    assert result.l0 == 0.0


def test_an_sae_that_gives_the_mean_is_the_mean_ablation(model, stream):
    result = evaluate(model, constant_sae(_acts(model, stream).mean(0)), stream, n_tokens=EVERYTHING)
    assert result.ce.sae == pytest.approx(result.ce.mean, abs=1e-6)
    assert result.explained_variance == pytest.approx(0.0, abs=1e-6)


def test_clean_loss_is_the_models_own(model, stream):
    total = n = 0.0
    for batch in stream.iter_pass():
        for row, document in zip(batch.token_ids, batch.document, strict=True):
            words = row[document >= 0]
            if len(words) > 2:
                logits = model.hf(input_ids=words[None]).logits[0]
                # The first token is BOS: it predicts nothing that is counted.
                total += float(torch.nn.functional.cross_entropy(logits[1:-1], words[2:], reduction="sum"))
                n += len(words) - 2
    result = evaluate(model, random_sae("topk"), stream, n_tokens=EVERYTHING)
    assert result.ce.n_predicted == n
    assert result.ce.clean == pytest.approx(total / n, rel=1e-5)


def test_the_figures_are_those_of_all_tokens_at_once(model, stream):
    sae, x = random_sae("batch_topk"), _acts(model, stream)
    result = evaluate(model, sae, stream, n_tokens=EVERYTHING)
    code = sae.encode(x)
    sums = VarianceSums.of(x, sae.decode(code).detach())
    assert result.n_tokens == len(x)
    assert result.explained_variance == pytest.approx(sums.explained_variance, rel=1e-6)
    assert result.fvu == pytest.approx(sums.fvu, rel=1e-6)
    assert result.l0 == pytest.approx(code.l0(), rel=1e-9)
    low, high = result.explained_variance_interval
    assert low < result.explained_variance < high
    assert result.ce.delta_interval[0] < result.ce.delta < result.ce.delta_interval[1]
    assert result.prefixes == ()


def test_prefixes_end_with_the_whole_dictionary(model, stream):
    result = evaluate(model, random_sae("matryoshka"), stream, n_tokens=EVERYTHING)
    assert [score.width for score in result.prefixes] == [6, 12, 24]
    last = result.prefixes[-1]
    assert last.explained_variance == result.explained_variance
    assert last.ce_delta == result.ce.delta
    assert last.kl == result.ce.kl
    assert last.l0 == result.l0
    assert result.prefixes[0].l0 < result.prefixes[1].l0 < last.l0


def test_a_prefix_is_the_sae_of_its_features_alone(model, stream):
    whole, cut = random_sae("matryoshka"), random_sae("matryoshka")
    with torch.no_grad():
        cut.b_enc[12:] = -1e6
    prefix = evaluate(model, whole, stream, n_tokens=EVERYTHING).prefixes[1]
    alone = evaluate(model, cut, stream, n_tokens=EVERYTHING)
    assert prefix.explained_variance == pytest.approx(alone.explained_variance, rel=1e-6)
    assert prefix.ce_delta == pytest.approx(alone.ce.delta, abs=1e-6)
    assert prefix.l0 == alone.l0


def test_packing_changes_no_figure(tmp_path, model):
    # Five words and BOS: four documents fill a row of 24 exactly, so that packing cuts none in two.
    words = tiny_tokens(40, 5)
    path = write_jsonl(tmp_path / "even.jsonl", [" ".join(f"w{word}" for word in row) for row in words.tolist()])
    padded, packed = (
        evaluate(
            model,
            random_sae("topk"),
            open_stream(str(path), model, DataConfig(context_size=24, batch_tokens=96, rows=rows), split="all"),
            n_tokens=EVERYTHING,
        )
        for rows in ("padded", "packed")
    )
    assert padded.n_tokens == packed.n_tokens == 200
    assert packed.explained_variance == pytest.approx(padded.explained_variance, rel=1e-5)
    assert packed.ce.clean == pytest.approx(padded.ce.clean, rel=1e-5)
    assert packed.ce.delta == pytest.approx(padded.ce.delta, rel=1e-4)
    assert packed.ce.delta_interval == pytest.approx(padded.ce.delta_interval, rel=1e-4)


@pytest.mark.parametrize("hook", ["blocks.0.attn.hook_z", "blocks.1.hook_mlp_out", "hook_embed"])
def test_other_hooks(model, stream, hook):
    sae = perfect_sae(model.hook(hook).width, hook=hook)
    result = evaluate(model, sae, stream, n_tokens=200)
    assert result.ce.delta == pytest.approx(0.0, abs=1e-6)
    assert result.ce.zero != result.ce.clean


def test_sinks_are_left_out_on_request(model, stream, monkeypatch):
    x = _acts(model, stream)
    sae = random_sae("topk")
    norms = x.norm(dim=1)
    monkeypatch.setattr("saes.metrics.SINK_RATIO", 1.2)
    usual = norms <= 1.2 * norms.median()
    sinks = evaluate(model, sae, stream, n_tokens=EVERYTHING).sinks
    assert sinks.n_sinks == int((~usual).sum()) > 0
    rest = VarianceSums.of(x[usual], sae.decode(sae.encode(x[usual])).detach())
    assert sinks.explained_variance_without == pytest.approx(rest.explained_variance, rel=1e-5)


def test_the_same_seed_gives_the_same_result(model, stream):
    sae = random_sae("topk")
    first, again = (evaluate(model, sae, stream, n_tokens=150, seed=5) for _ in range(2))
    assert first == again
    assert first.n_tokens < evaluate(model, sae, stream, n_tokens=EVERYTHING).n_tokens


def test_json_brings_everything_back(model, stream):
    result = evaluate(model, random_sae("matryoshka"), stream, n_tokens=150)
    result = replace(result, null_arms={"random": result.as_arm()})
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize("damage", [{"schema_version": 0}, {"l0": "many"}, {"ce": {}}])
def test_damaged_json_is_told(model, stream, damage):
    values = evaluate(model, random_sae("topk"), stream, n_tokens=150).to_json()
    with pytest.raises(ArtifactError, match="evaluate the run again"):
        Evaluation.from_json({**values, **damage})


def _facts(model, stream, **model_facts):
    return SAEFacts(HOOK, "topk", (24,), model={**model.facts, **model_facts}, data=stream.facts)


def test_another_model_or_mask_is_refused_unless_allowed(tmp_path, model, stream):
    sae = random_sae("topk")
    evaluate(model, sae, stream, n_tokens=100, facts=_facts(model, stream))
    other_model = _facts(model, stream, content_hash="0" * 64)
    with pytest.raises(ArtifactError, match="trained on"):
        evaluate(model, sae, stream, n_tokens=100, facts=other_model)
    evaluate(model, sae, stream, n_tokens=100, facts=other_model, allow_mismatch=True)
    unmasked = tiny_stream(tmp_path, model, mask=MaskPolicy(mask_bos=False))
    with pytest.raises(ArtifactError, match="mask_policy"):
        evaluate(model, sae, unmasked, n_tokens=100, facts=_facts(model, stream))


def test_what_cannot_be_evaluated_is_told(tmp_path, model, stream):
    with pytest.raises(UnknownHookError):
        evaluate(model, random_sae("topk", hook="blocks.9.hook_resid_post"), stream, n_tokens=100)
    with pytest.raises(ShapeError, match="check the hook"):
        evaluate(model, random_sae("topk", d_in=8), stream, n_tokens=100)
    with pytest.raises(DataError, match="longer documents"):
        evaluate(model, random_sae("topk"), tiny_stream(tmp_path, model, longest=1), n_tokens=100)


def test_progress_is_told_in_tokens(model, stream):
    calls = []
    result = evaluate(model, random_sae("topk"), stream, n_tokens=300, on_progress=lambda *call: calls.append(call))
    assert calls[-1] == ("evaluate", result.n_tokens, result.n_tokens)
    assert {stage for stage, _, _ in calls} == {"mean activation", "evaluate"}
