import torch

from interp.datasets import TokenBatch
from saes.arm_losses import compare, iter_slices, predicted_mask, run_arm, run_clean
from tests.families import tiny_model, tiny_tokens
from tests.specimens import HOOK


def _batch(keep, document):
    keep, document = torch.tensor(keep), torch.tensor(document)
    tokens = tiny_tokens(*keep.shape)
    return TokenBatch(
        tokens, keep.bool(), (document >= 0).long(), torch.arange(keep.shape[1]).expand(keep.shape), document
    )


def test_only_kept_tokens_with_a_successor_in_their_document_predict():
    # BOS, two words, padding; two packed documents with a masked separator in between.
    batch = _batch([[0, 1, 1, 0], [1, 1, 0, 1]], [[0, 0, 0, -1], [1, 1, 2, 2]])
    assert predicted_mask(batch).int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


def test_an_arm_replaces_kept_tokens_and_nothing_else():
    model = tiny_model("llama")
    batch = _batch([[0, 1, 0, 1, 1]], [[0, 0, 0, 0, 0]])

    def by_hand(module, args, output):
        output[0, [1, 3, 4]] = 0.0
        return output

    with model.hf.model.layers[1].register_forward_hook(by_hand):
        logits = model.hf(input_ids=batch.token_ids).logits
    expected = -logits.log_softmax(-1)[0, [1, 3]].gather(1, batch.token_ids[0, [2, 4], None])[:, 0]
    clean = run_clean(model, batch, (HOOK,))
    arm = run_arm(model, clean, {HOOK: torch.zeros_like(clean.acts.acts[HOOK])})
    torch.testing.assert_close(arm.nll, expected)
    assert not torch.allclose(arm.nll, clean.nll)


def test_putting_the_same_activations_back_changes_nothing():
    model = tiny_model("gpt2")
    clean = run_clean(model, _batch([[1] * 6] * 3, [[0] * 6, [1] * 6, [2] * 4 + [-1] * 2]), (HOOK,))
    arm = run_arm(model, clean, clean.acts.acts)
    assert torch.equal(arm.nll, clean.nll)
    assert float(arm.kl.abs().max()) == 0.0


def test_kl_of_a_case_solved_by_hand():
    clean = torch.tensor([[0.5, 0.5]]).log()
    arm = compare(clean, torch.tensor([[0.25, 0.75]]).log(), torch.tensor([1]))
    expected = 0.5 * torch.log(torch.tensor(0.5 / 0.25)) + 0.5 * torch.log(torch.tensor(0.5 / 0.75))
    torch.testing.assert_close(arm.kl[0], expected)
    torch.testing.assert_close(arm.nll[0], -torch.log(torch.tensor(0.75)))


def test_slices_together_are_the_batch():
    batch = _batch([[1] * 4] * 5, [[i] * 4 for i in range(5)])
    parts = list(iter_slices(batch, 1 << 23))
    assert [part.token_ids.shape[0] for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.document for part in parts]), batch.document)
