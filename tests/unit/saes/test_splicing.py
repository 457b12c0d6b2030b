"""A spliced model is the model with reconstructions in place: nothing more, nothing less, while generating too."""

from pathlib import Path

import pytest
import torch

import saes
from interp.code import Code
from interp.datasets import MaskPolicy, TokenBatch
from interp.errors import ArtifactError, ConfigError, NonFiniteError, ShapeError, UnknownHookError
from interp.hooks import capture, edit
from saes.arm_losses import run_arm, run_clean
from saes.facts import SAEFacts
from saes.normalised import NormalisedSAE
from tests.families import KINDS, tiny_model, tiny_tokens
from tests.specimens import HOOK, constant_sae, perfect_sae, random_sae

FIRST = "blocks.0.hook_mlp_out"
BOS, PAD = 0, 2


@pytest.fixture
def llama():
    return tiny_model("llama")


def _logits(model, token_ids, mask=None):
    with torch.no_grad():
        return model.hf(token_ids, attention_mask=mask).logits


def _generate(model, token_ids, mask=None, **more):
    given = {"inputs": token_ids, "attention_mask": torch.ones_like(token_ids) if mask is None else mask}
    return model.hf.generate(**given, max_new_tokens=8, do_sample=False, pad_token_id=PAD, eos_token_id=[], **more)


def _saved(sae, model, **data):
    facts = SAEFacts(sae.hooks_in[0], "topk", (sae.d_sae,), model.facts, data)
    return saes.OpenedSAE(Path("sae"), model, sae, facts)


@pytest.mark.parametrize("kind", KINDS)
def test_with_its_error_term_an_sae_changes_nothing(kind):
    model, tokens = tiny_model(kind), tiny_tokens()
    clean, written = _logits(model, tokens), _generate(model, tokens)
    with saes.splice(model, [random_sae("topk"), random_sae("batch_topk", hook=FIRST)], error_term=True):
        assert torch.equal(_logits(model, tokens), clean)
        assert torch.equal(_generate(model, tokens), written)
    assert torch.equal(_logits(model, tokens), clean)


@pytest.mark.parametrize("kind", KINDS)
def test_generating_from_the_cache_equals_running_the_whole_text_each_time(kind):
    model, sae = tiny_model(kind), random_sae("topk")
    tokens = torch.cat([torch.full((3, 1), BOS), tiny_tokens()], dim=1)
    told = {"return_dict_in_generate": True, "output_logits": True}
    with saes.splice(model, sae):
        cached = _generate(model, tokens, **told)
        text, logits = tokens, []
        for _ in range(8):
            logits.append(_logits(model, text)[:, -1])
            text = torch.cat([text, logits[-1].argmax(-1)[:, None]], dim=1)
    assert torch.equal(cached.sequences, text)
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(logits), rtol=1e-4, atol=1e-4)
    clean = _generate(model, tokens, **told).logits
    # From the first generated token on, and on tokens that came through the cache.
    assert not torch.allclose(clean[0], logits[0], atol=1e-2)
    assert not torch.allclose(clean[7], logits[7], atol=1e-2)


def test_a_row_padded_on_the_left_generates_what_it_generates_alone(llama):
    tokens = tiny_tokens(1, 6)
    padded = torch.cat([torch.full((1, 3), PAD), tokens], dim=1)
    mask = (padded != PAD).long()
    policy = MaskPolicy(mask_special=False)
    with saes.splice(llama, random_sae("topk"), mask=policy):
        assert torch.equal(_generate(llama, padded, mask)[:, 3:], _generate(llama, tokens))


def test_tokens_are_replaced_as_evaluation_replaces_them(llama):
    tokens = torch.cat([torch.full((3, 1), BOS), tiny_tokens()], dim=1)
    keep = tokens != BOS
    batch = TokenBatch(tokens, keep, keep.long() * 0 + 1, torch.arange(12).expand(3, 12), torch.zeros_like(tokens))
    sae = random_sae("matryoshka")
    clean = run_clean(llama, batch, (HOOK,))
    for prefix in (None, 6):
        replaced = sae.decode(sae.encode(clean.acts.acts[HOOK]), prefix=prefix).detach()
        arm = run_arm(llama, clean, {HOOK: replaced})
        with saes.splice(llama, sae, prefix=prefix):
            log_probs = _logits(llama, tokens)[clean.predicted].log_softmax(-1)
        torch.testing.assert_close(-log_probs.gather(1, clean.targets[:, None])[:, 0], arm.nll)


def test_spared_tokens_keep_their_activations(llama):
    tokens = torch.tensor([[BOS, 7, 8, PAD, 9]])
    nine = constant_sae(torch.full((16,), 9.0))

    def replaced(sae, mask=None, **more):
        with saes.splice(llama, sae, **more):
            acts = capture(llama, tokens, (HOOK,), attention_mask=mask)[HOOK]
        return (acts == 9.0).all(-1)[0].tolist()

    assert replaced(nine) == [False, True, True, False, True]
    assert replaced(nine, mask=torch.tensor([[1, 1, 0, 0, 1]])) == [False, True, False, False, True]
    assert replaced(_saved(nine, llama, mask_policy={"mask_bos": False, "mask_special": True})) == [
        *(True, True, True, False, True)
    ]
    with saes.splice(llama, nine, mask=MaskPolicy(mask_bos=False, mask_special=False)):
        assert bool((capture(llama, tokens, (HOOK,))[HOOK] == 9.0).all())


def test_a_perfect_sae_changes_next_to_nothing_and_a_prefix_of_it_something(llama):
    tokens, sae = tiny_tokens(), perfect_sae()
    clean = _logits(llama, tokens)
    with saes.splice(llama, sae):
        torch.testing.assert_close(_logits(llama, tokens), clean, rtol=1e-4, atol=1e-5)
    with saes.splice(llama, sae, prefix=16):
        assert not torch.allclose(_logits(llama, tokens), clean, atol=1e-3)


def test_steering_adds_the_feature_s_direction(llama):
    """x = relu(x) - relu(-x): holding feature 3 at 5 and its mirror image at 0 sets coordinate 3 to 5."""
    tokens, sae = tiny_tokens(), perfect_sae()
    held = saes.pin_features({3: 5.0, 19: 0.0})

    def by_hand(x):
        x[..., 3] = 5.0
        return x

    with edit(llama, {HOOK: by_hand}):
        expected = _logits(llama, tokens)
    for error_term in (True, False):
        with saes.splice(llama, sae, edit=held, error_term=error_term):
            torch.testing.assert_close(_logits(llama, tokens), expected, rtol=1e-4, atol=1e-5)


def test_an_ablated_feature_is_gone_and_the_error_stays(llama):
    sae, tokens = random_sae("topk"), tiny_tokens()
    x = capture(llama, tokens, (HOOK,))[HOOK]
    code = sae.encode(x.flatten(0, 1))
    feature = int(code.features[0])
    taken = code.dense()[:, feature, None] * sae.directions(torch.tensor([feature]))
    with saes.splice(llama, sae, edit={HOOK: saes.ablate_features(feature)}, error_term=True):
        after = capture(llama, tokens, (HOOK,))[HOOK]
    torch.testing.assert_close(after, x - taken.view_as(x).detach(), rtol=1e-4, atol=1e-5)


def test_edited_codes_hold_what_they_should():
    code = Code.from_dense(torch.tensor([[0.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
    assert saes.ablate_features(1)(code).dense().tolist() == [[0, 0, 3], [0, 0, 0]]
    pinned = saes.pin_features({2: 7.0, 0: 1.0})(code)
    assert pinned.dense().tolist() == [[1, 2, 7], [1, 0, 7]]
    assert pinned.features.tolist() == [0, 1, 2, 0, 2]
    assert pinned.row_offsets.tolist() == [0, 3, 5]


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm", "centre"])
def test_an_sae_that_normalises_can_be_spliced_and_edited(llama, normalisation):
    sae, tokens = NormalisedSAE(random_sae("topk"), normalisation), tiny_tokens()
    clean = _logits(llama, tokens)
    with saes.splice(llama, sae, error_term=True):
        assert torch.equal(_logits(llama, tokens), clean)
    with saes.splice(llama, sae, error_term=True, edit=saes.pin_features({3: 2.0})):
        assert not torch.allclose(_logits(llama, tokens), clean, atol=1e-3)


def test_what_load_gives_is_held_to_its_facts(llama):
    sae = random_sae("topk")
    for_another = SAEFacts(HOOK, "topk", (24,), {"name": "other", "content_hash": "abc"})
    with pytest.raises(ArtifactError, match="was trained on"), saes.splice(llama, (sae, for_another)):
        pass
    with saes.splice(llama, (sae, SAEFacts(HOOK, "topk", (24,), llama.facts)), error_term=True):
        _logits(llama, tiny_tokens())


def test_several_saes_are_several_splices(llama):
    one, two, tokens = random_sae("topk"), random_sae("topk", hook=FIRST, seed=1), tiny_tokens()
    with saes.splice(llama, two), saes.splice(llama, one):
        nested = _logits(llama, tokens)
    with saes.splice(llama, [one, two]):
        assert torch.equal(_logits(llama, tokens), nested)


def test_no_hook_is_left_behind_even_by_a_failure(llama):
    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llama.hf.modules())

    before = hooks()
    with pytest.raises(RuntimeError, match="mine"), saes.splice(llama, random_sae("topk")):
        raise RuntimeError("mine")
    assert hooks() == before


def test_gradients_reach_the_tokens_through_the_features(llama):
    embedded = []

    def note(x):
        embedded.append(x.requires_grad_())
        return x

    with edit(llama, {"hook_embed": note}), saes.splice(llama, random_sae("topk")):
        llama.hf(tiny_tokens(1, 5)).logits.sum().backward()
    assert float(embedded[0].grad.abs().sum()) > 0


def test_what_cannot_be_spliced_is_told(llama):
    sae = random_sae("topk")
    other = tiny_model("llama", seed=1)

    def fails(error, message, *what, run=None, **more):
        with pytest.raises(error, match=message), saes.splice(llama, *what, **more):
            (run or (lambda: _logits(llama, tiny_tokens())))()

    fails(ArtifactError, "was trained on", _saved(sae, other))
    fails(ArtifactError, "width 12", random_sae("topk", d_in=12))
    fails(UnknownHookError, "blocks.9", random_sae("topk", hook="blocks.9.hook_resid_post"))
    fails(ConfigError, "each of another hook", [sae, sae])
    fails(ConfigError, "no hook", [])
    fails(ConfigError, "prefix: got 25", sae, prefix=25)
    fails(ConfigError, "by hook name", [sae, random_sae("topk", hook=FIRST)], edit=lambda code: code)
    fails(ConfigError, "'elsewhere'", sae, edit={"elsewhere": lambda code: code})
    fails(ConfigError, "got feature 24", sae, edit=saes.ablate_features(24))
    fails(ShapeError, "returned a code of 2 tokens", sae, edit=lambda _: Code.from_dense(torch.ones(2, 24)))
    embeds = torch.zeros(1, 3, 16)
    fails(ConfigError, "inputs_embeds", sae, run=lambda: llama.hf(inputs_embeds=embeds))
    fails(
        ArtifactError,
        "leave mask out",
        _saved(sae, llama, mask_policy={"mask_bos": False, "mask_special": True}),
        mask=MaskPolicy(),
    )
    with pytest.raises(ConfigError, match="at least 0"):
        saes.pin_features({1: -1.0})
    with saes.splice(llama, _saved(sae, other), allow_mismatch=True):
        _logits(llama, tiny_tokens())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_activations_that_are_no_numbers_are_not_replaced_by_numbers(llama, poison):
    tokens = torch.cat([torch.full((3, 1), BOS), tiny_tokens()], dim=1)

    def poisoned(place):
        return {HOOK: lambda x: x.index_fill(1, torch.tensor([place]), poison)}

    # Edits of one hook compose from the outside in: the SAE reads what is poisoned.
    told = pytest.raises(NonFiniteError, match="3 of 33 tokens have NaN or infinite activations")
    with edit(llama, poisoned(4)), saes.splice(llama, random_sae("topk")), told:
        _logits(llama, tokens)
    # BOS keeps its activations, whatever they are.
    with edit(llama, poisoned(0)), saes.splice(llama, random_sae("topk")):
        _logits(llama, tokens)
