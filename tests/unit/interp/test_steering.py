"""Steering moves what it should by what algebra says, and nothing else."""

import numpy as np
import pytest
import torch

from interp.code_edits import ablate_features, pin_features, shift_features
from interp.directions import (
    Direction,
    activations_at,
    covariance_matched,
    feature_direction,
    mean_difference,
    random_decoder_rows,
    with_norms,
)
from interp.errors import ArtifactError, ConfigError, DataError, ShapeError
from interp.feature_edits import code_edit, feature_edit
from interp.forward import all_outputs, last_outputs
from interp.hooks import capture, edit
from interp.models import Model, load_model
from interp.outcomes import LOGIT_DIFFERENCE
from interp.prompts import encode_prompts, prompts_of
from interp.side_effects import neutral_rows, steered_kl, steered_side_effects
from interp.steered_text import steered_texts
from interp.steering import SteeringScene, dose_response, reach, steer
from interp.steering_results import DoseResponse
from tests.families import tiny_model
from tests.specimens import random_sae
from tests.unchecked import unchecked
from tests.wirings import random_transcoder

RESID = "blocks.1.hook_resid_post"
READOUT = "ln_final.hook_out"


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("gpt2")


@pytest.fixture(scope="module")
def prompts():
    rows = [[0, 5, 6, 7, 8], [0, 9, 10], [0, 11, 12, 13], [0, 20, 21, 22]]
    return prompts_of(rows, answers=[5, 6, 7, 8], foils=[9, 10, 11, 12], clusters=[0, 0, 1, 2], places={"who": [1] * 4})


def _direction(hook: str, width: int = 16, seed: int = 3) -> Direction:
    return Direction(hook, torch.randn(width, generator=torch.Generator().manual_seed(seed)))


def test_a_linear_readout_moves_by_strength_times_the_dot_product(model, prompts):
    direction, strengths = _direction(READOUT), [-2.0, 0.0, 0.5, 3.0]
    found = dose_response(model, direction, prompts, LOGIT_DIFFERENCE, strengths=strengths)
    w = model.unembedding.weight.double()
    dots = (w[prompts.answers] - w[prompts.foils]) @ direction.vector.double()
    np.testing.assert_allclose(found.effect.value, np.array(strengths) * float(dots.mean()), rtol=1e-4, atol=1e-5)
    assert found.slope.value == pytest.approx(float(dots.mean()), rel=1e-4)
    assert found.n_clusters == 3


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "bert"])
@pytest.mark.parametrize("hook", [RESID, "blocks.2.hook_mlp_out", "blocks.0.hook_resid_pre"])
def test_strength_zero_changes_nothing_bit_for_bit(kind, hook):
    model = tiny_model(kind)
    rows = prompts_of([[4, 5, 6, 7], [8, 9]])
    before = all_outputs(model, rows).detach()
    with steer(model, _direction(hook), 0.0):
        assert all_outputs(model, rows).detach().equal(before)
    with steer(model, _direction(hook), 1.0):
        assert not all_outputs(model, rows).detach().equal(before)
    assert all_outputs(model, rows).detach().equal(before)


def test_a_sweep_is_the_same_as_steering_one_at_a_time(model, prompts):
    scene = SteeringScene.of(model, RESID, prompts, LOGIT_DIFFERENCE)
    vectors = torch.stack([_direction(RESID, seed=seed).vector for seed in (1, 2)])
    found = scene.effects(vectors, [-1.0, 2.0])
    before = LOGIT_DIFFERENCE(last_outputs(model, prompts).detach(), prompts)
    for i, vector in enumerate(vectors):
        for j, strength in enumerate((-1.0, 2.0)):
            with steer(model, Direction(RESID, vector), strength):
                after = LOGIT_DIFFERENCE(last_outputs(model, prompts).detach(), prompts)
            np.testing.assert_allclose(found[i, j], (after - before).numpy(), rtol=1e-4, atol=1e-5)


def test_one_place_and_what_follows_it_are_reached(model, prompts):
    assert reach(model, prompts).sum(1).tolist() == [4, 2, 3, 3]
    assert reach(model, prompts, "who").nonzero()[:, 1].tolist() == [1, 1, 1, 1]
    assert reach(model, prompts, 2, onwards=True).sum(1).tolist() == [3, 1, 2, 2]
    with pytest.raises(ConfigError, match="got place 'whom'"):
        reach(model, prompts, "whom")
    with steer(model, _direction(RESID), 1.0):
        acts = capture(model, prompts.token_ids, [RESID])[RESID]
    before = capture(model, prompts.token_ids, [RESID])[RESID]
    assert acts[:, 0].equal(before[:, 0]), "BOS is spared"
    torch.testing.assert_close(
        acts[0, 1:] - before[0, 1:], _direction(RESID).vector.expand(4, -1), rtol=1e-4, atol=1e-5
    )


def test_matched_directions_have_the_covariance_of_the_data():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 4, generator=generator)
    acts = torch.randn(500, 6, generator=generator) @ mixing + 5
    drawn = covariance_matched(acts, 40_000, seed=1).double()
    truth = torch.cov(acts.T.double())
    # A sample covariance's entries vary by sqrt((s_ii s_jj + s_ij^2) / n); five of those over 10 entries never happen.
    spread = ((truth.diag()[:, None] * truth.diag() + truth.square()) / drawn.shape[0]).sqrt()
    assert bool(((torch.cov(drawn.T) - truth).abs() < 5 * spread).all())
    assert bool((drawn.mean(0).abs() < 5 * (truth.diag() / drawn.shape[0]).sqrt()).all())
    with pytest.raises(DataError, match="at least two"):
        covariance_matched(acts[:1], 3)


def test_controls_are_centred_and_find_a_null_direction_ordinary(model, prompts):
    acts = torch.randn(300, 16, generator=torch.Generator().manual_seed(5))
    null = Direction(READOUT, covariance_matched(acts, 1, seed=99)[0])
    controls = {"matched": covariance_matched(acts, 400, seed=1)}
    found = dose_response(model, null, prompts, LOGIT_DIFFERENCE, strengths=[-1.0, 0.0, 1.0], controls=controls)
    (arm,) = found.arms
    standard_error = arm.effects[:, 2].std() / 20
    assert abs(arm.effects[:, 2].mean()) < 4 * standard_error
    assert 0.05 < arm.p_slope(float(found.slope.value)) <= 1
    low, high = arm.band()
    assert low[0] < 0 < high[0]
    assert (arm.effects[:, 1] == 0).all()


def test_a_direction_that_matters_stands_out(model, prompts):
    w = model.unembedding.weight.detach()
    right = Direction(READOUT, (w[prompts.answers] - w[prompts.foils]).mean(0))
    controls = {"isotropic": torch.randn(100, 16, generator=torch.Generator().manual_seed(2))}
    found = dose_response(model, right, prompts, LOGIT_DIFFERENCE, strengths=[0.0, 2.0], controls=controls)
    assert found.arms[0].p_slope(float(found.slope.value)) == pytest.approx(1 / 101)
    # Prompt by prompt, its lead over them: here the same linear figure as the effect less theirs.
    np.testing.assert_allclose(found.arms[0].gap.value, found.effect.value - found.arms[0].effects.mean(0), atol=1e-6)


def test_decoder_rows_leave_out_what_is_steered():
    sae = random_sae("topk")
    rows = random_decoder_rows(sae, 23, exclude=(4,), seed=0)
    every = sae.directions(torch.arange(24)).detach()
    alike = (torch.nn.functional.cosine_similarity(rows[:, None], every[None], dim=2).abs() > 1 - 1e-5).sum(0)
    assert alike.tolist() == [0 if feature == 4 else 1 for feature in range(24)]
    with pytest.raises(ConfigError, match="ask for fewer"):
        random_decoder_rows(sae, 24, exclude=(4,))
    assert with_norms(rows, 2.5).norm(dim=1).allclose(torch.tensor(2.5))


def test_a_mean_difference_is_the_difference_of_means(model):
    toward, away = prompts_of([[0, 5, 6], [0, 7, 8, 9]]), prompts_of([[0, 10], [0, 11, 12]])
    found = mean_difference(model, RESID, toward, away)
    expected = activations_at(model, RESID, toward, "last").mean(0) - activations_at(model, RESID, away, "last").mean(0)
    torch.testing.assert_close(found.vector, expected, rtol=0, atol=0)
    with pytest.raises(DataError, match="prompts that differ"):
        mean_difference(model, RESID, toward, toward)


def test_all_tokens_of_a_direction_are_those_that_are_steered(model):
    toward, away = prompts_of([[0, 5, 6, 1], [0, 7, 8, 9]], pad=2), prompts_of([[0, 10], [0, 11, 12]], pad=2)
    acts = capture(model, toward.token_ids, [RESID])[RESID]
    torch.testing.assert_close(activations_at(model, RESID, toward, None), acts[reach(model, toward)], rtol=0, atol=0)
    assert activations_at(model, RESID, toward, None).shape == (5, 16)
    assert activations_at(model, RESID, toward, None, bos=True).equal(acts[toward.real])
    assert activations_at(model, RESID, toward, 0).equal(acts[:, 0])
    expected = acts[:, 1:][[0, 0, 1, 1, 1], [0, 1, 0, 1, 2]].mean(0) - _spoken_by_hand(model, away)
    torch.testing.assert_close(mean_difference(model, RESID, toward, away, position=None).vector, expected)
    with pytest.raises(DataError, match="nothing but BOS"):
        activations_at(model, RESID, prompts_of([[0], [0, 1]]), None)


def _spoken_by_hand(model, away):
    acts = capture(model, away.token_ids, [RESID])[RESID]
    return (acts[0, 1] + acts[1, 1] + acts[1, 2]) / 3


def test_bos_is_no_part_of_a_direction_unless_asked_for():
    """Prompts of two lengths differ by BOS's share of the mean; without it, by what is said."""
    embedded = load_model("embedded", device="cpu")
    short = encode_prompts(embedded, ["Lily was sad", "Sue was sad"])
    long = encode_prompts(embedded, [f"One day {name} went out and he was very sad" for name in ("Tom", "Tim")])
    bos = activations_at(embedded, RESID, short, 0)[0]
    alike = {
        counted: torch.cosine_similarity(
            mean_difference(embedded, RESID, short, long, position=None, bos=counted).vector, bos, dim=0
        )
        for counted in (True, False)
    }
    assert alike[True] > 0.7
    assert abs(alike[False]) < 0.2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_strength_that_is_not_finite_is_refused(model, prompts, bad):
    direction = _direction(RESID)
    with pytest.raises(ConfigError, match=f"strengths: got 0, {bad}; expected finite"):
        dose_response(model, direction, prompts, LOGIT_DIFFERENCE, strengths=[0.0, bad])
    with pytest.raises(ConfigError, match=f"strength: got {bad}; expected finite"), steer(model, direction, bad):
        pass


@pytest.mark.parametrize("vector", [np.ones(16), [1.0] * 16, torch.ones(16, dtype=torch.int64)])
def test_a_vector_of_another_kind_is_refused(vector):
    with (
        pytest.raises(ConfigError, match=r"expected a tensor of floating-point numbers: torch\.as_tensor"),
        unchecked(),
    ):
        Direction(RESID, vector)


def test_directions_are_kept_and_checked(model, tmp_path):
    direction = feature_direction(random_sae("topk"), 3)
    path = tmp_path / "direction.json"
    direction.save(path)
    held = Direction.load(path)
    assert (held.hook, held.name, held.source) == (direction.hook, "feature 3", "feature")
    assert held.vector.equal(direction.vector)
    assert held.with_norm(2.0).norm == pytest.approx(2.0)
    path.write_text('{"hook": "blocks.0.hook_resid_post"}')
    with pytest.raises(ArtifactError, match="holds no direction"):
        Direction.load(path)
    with pytest.raises(ShapeError, match="is 16 wide"):
        Direction(RESID, torch.ones(5)).check_fits(model)
    with pytest.raises(ConfigError, match="not all zero"):
        Direction(RESID, torch.zeros(5))
    with pytest.raises(ConfigError, match="got feature 99"):
        feature_direction(random_sae("topk"), 99)


def test_side_effects_are_zero_unsteered_and_grow(model):
    neutral = neutral_rows(
        model, [" ".join(f"w{4 + (i * j) % 36}" for i in range(1, 20)) for j in range(1, 6)], n_tokens=12
    )
    strengths = [0.0, 1.0, 8.0]
    found = steered_side_effects(model, _direction(RESID), strengths, neutral)
    assert found.kl.value[0] == 0
    assert 0 < found.kl.value[1] < found.kl.value[2]
    assert found.perplexity.value[0] == pytest.approx(found.unsteered_perplexity, rel=1e-6)
    assert (found.n_documents, found.n_tokens) == (5, 5 * 11)
    alone = steered_kl(model, RESID, _direction(RESID).vector[None], strengths, neutral)
    np.testing.assert_allclose(alone[0], found.kl.value, rtol=1e-6)
    # Perplexity by hand.
    logp = all_outputs(model, neutral).detach().double().log_softmax(2)
    nats = -logp[:, :-1].gather(2, neutral.token_ids[:, 1:, None]).mean()
    assert found.unsteered_perplexity == pytest.approx(float(nats.exp()), rel=1e-5)
    with pytest.raises(DataError, match="two or more"):
        neutral_rows(model, ["w5 w6"])


def test_results_come_back_from_disk(model, prompts, tmp_path):
    neutral = prompts_of([[0, 5, 6, 7], [0, 8, 9, 10]])
    controls = {"isotropic": torch.randn(5, 16)}
    found = dose_response(
        model,
        _direction(RESID),
        prompts,
        LOGIT_DIFFERENCE,
        strengths=[-1.0, 0.0, 1.0],
        controls=controls,
        neutral=neutral,
    )
    found.save(tmp_path / "dose.json")
    held = DoseResponse.load(tmp_path / "dose.json")
    assert held.to_json() == found.to_json()
    assert "<td>+1</td>" in held._repr_html_()
    assert held.arms[0].kl.shape == (5, 3)
    (tmp_path / "other.json").write_text('{"kind": "effect_grid"}')
    with pytest.raises(ArtifactError, match="no dose-response"):
        DoseResponse.load(tmp_path / "other.json")
    with pytest.raises(ConfigError, match="at least two"):
        dose_response(model, _direction(RESID), prompts, LOGIT_DIFFERENCE, strengths=[1.0])


def test_a_steered_model_writes_what_the_direction_says():
    model = load_model("embedded", device="cpu")
    word = model.unembedding.weight[model.tokenizer(" cat", add_special_tokens=False)["input_ids"][0]].detach()
    direction = Direction("ln_final.hook_out", word / word.norm())
    texts = steered_texts(model, direction, ["Once upon a time"], strengths=[0.0, 500.0], new_tokens=6)
    assert texts[1].text == " cat" * 6
    assert " cat" not in texts[0].text
    assert texts[0].text == steered_texts(model, direction, ["Once upon a time"], strengths=[0.0], new_tokens=6)[0].text


@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "batch_topk"])
def test_editing_features_keeps_the_error(model, prompts, architecture):
    sae = random_sae(architecture)
    keep = reach(model, prompts)
    acts = capture(model, prompts.token_ids, [RESID])[RESID]
    with edit(model, {RESID: feature_edit(sae, lambda code: code, keep)}):
        assert capture(model, prompts.token_ids, [RESID])[RESID].equal(acts)
    code = sae.encode(acts[keep]).dense().detach()
    feature = int(code.sum(0).argmax())
    direction = sae.directions(torch.tensor([feature]))[0].detach()
    for change, moved in (
        (ablate_features(feature), -code[:, feature]),
        (pin_features({feature: 2.5}), 2.5 - code[:, feature]),
        (shift_features({feature: 0.75}), torch.full((code.shape[0],), 0.75)),
    ):
        with edit(model, {RESID: feature_edit(sae, change, keep)}):
            after = capture(model, prompts.token_ids, [RESID])[RESID]
        torch.testing.assert_close(after[keep], acts[keep] + moved[:, None] * direction, rtol=1e-4, atol=1e-4)
        assert after[~keep].equal(acts[~keep])


def test_shifted_features_do_not_fall_below_zero(model, prompts):
    sae = random_sae("topk")
    code = sae.encode(capture(model, prompts.token_ids, [RESID])[RESID][0])
    shifted = shift_features({1: -0.2, 5: 0.3})(code).dense()
    expected = code.dense()
    expected[:, 1] = (expected[:, 1] - 0.2).clamp_min(0)
    expected[:, 5] += 0.3
    torch.testing.assert_close(shifted, expected)


def test_codes_of_any_size_are_put_in_their_place(model, prompts):
    sae = random_sae("topk")
    keep = reach(model, prompts, "last")
    acts = capture(model, prompts.token_ids, [RESID])[RESID]
    own = sae.encode(acts[keep]).dense().detach()
    new = own.clone()
    new[:, 2] = -12.5
    with edit(model, {RESID: code_edit(sae, new, keep, own)}):
        after = capture(model, prompts.token_ids, [RESID])[RESID]
    moved = (new - own)[:, 2:3] * sae.directions(torch.tensor([2])).detach()
    torch.testing.assert_close(after[keep], acts[keep] + moved, rtol=1e-4, atol=1e-4)


def test_dictionaries_of_several_hooks_are_refused():
    sae = random_transcoder()
    with pytest.raises(ConfigError, match="expected one that reads and writes the same hook"):
        feature_edit(sae, lambda code: code, torch.ones(1, 1, dtype=torch.bool))


def test_a_text_model_is_needed_for_text(prompts):
    encoder = tiny_model("bert")
    with pytest.raises(ConfigError, match="writes no text"):
        steered_texts(encoder, _direction(RESID), ["w5"], strengths=[0.0])
    with pytest.raises(ConfigError, match="predicts no next token"):
        neutral_rows(encoder, ["w5 w6"])


def test_prompts_of_the_embedded_model_are_steered_at_their_words():
    model = load_model("embedded", device="cpu")
    rows = encode_prompts(model, ["Lily was sad because", "Tim was sad because"])
    assert int(reach(model, rows).sum()) == int(rows.real.sum()) - 2
