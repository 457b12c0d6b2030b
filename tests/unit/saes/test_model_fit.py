"""What an SAE's files say, on a model whose norms or modules are others than they suppose."""

import pytest
import torch

import saes
from interp.errors import ArtifactError
from interp.hooks import capture
from saes.facts import SAEFacts
from saes.model_fit import fitted
from saes.normalised import NormalisedSAE
from saes.transcoder import Transcoder
from tests.families import tiny_model, tiny_tokens
from tests.peers.conformance import randomised
from tests.specimens import HOOK, random_sae

BEFORE, AFTER, OUT = "blocks.1.ln2.hook_normalized", "blocks.1.ln2.hook_out", "blocks.1.hook_mlp_out"


def _acts(model, hook):
    return capture(model, tiny_tokens(), [hook])[hook].flatten(0, 1)


@pytest.mark.parametrize("kind", ["gemma2", "llama"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_transcoder_of_a_norm_before_its_gain_reads_it_after_the_gain(kind, skip):
    model = tiny_model(kind)
    config = random_sae("standard").config
    sae = randomised(Transcoder(config, 16, 16, skip=skip, hooks_in=(BEFORE,), hooks_out=(OUT,)))
    stream = _acts(model, "blocks.1.hook_resid_mid")
    normalised = stream * torch.rsqrt(stream.square().mean(1, keepdim=True) + model.hf.config.rms_norm_eps)
    here, facts = fitted(sae, SAEFacts(BEFORE, "transcoder", (24,)), model)
    assert (facts.hook, here.hooks_in, here.hooks_out) == (AFTER, (AFTER,), (OUT,))
    x = _acts(model, AFTER)
    torch.testing.assert_close(here.encode(x).dense(), sae.encode(normalised).dense(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(here.decode(here.encode(x)), sae.decode(sae.encode(normalised)), rtol=1e-4, atol=1e-4)


def test_a_gain_of_zero_is_told():
    model, config = tiny_model("llama"), random_sae("standard").config
    with torch.no_grad():
        model.hf.get_submodule(model.hook(AFTER).module_path).weight[3] = 0
    sae = Transcoder(config, 16, 16, hooks_in=(BEFORE,), hooks_out=(OUT,))
    with pytest.raises(ArtifactError, match="gain of zero"):
        fitted(sae, SAEFacts(BEFORE, "transcoder", (24,)), model)


def test_only_the_stream_of_a_layer_norm_model_is_centred():
    sae, facts = NormalisedSAE(random_sae("topk"), "centre"), SAEFacts(HOOK, "topk", (24,))
    assert fitted(sae, facts, tiny_model("gpt2"))[0] is sae
    llama = tiny_model("llama")
    assert fitted(sae, facts, llama)[0] is sae.inner
    tokens = tiny_tokens()
    with torch.no_grad(), saes.splice(llama, (sae, facts)):
        spliced = llama.hf(tokens).logits
    with torch.no_grad(), saes.splice(llama, sae.inner):
        torch.testing.assert_close(spliced, llama.hf(tokens).logits)


@pytest.mark.parametrize(
    ("kind", "module", "hook", "fits"),
    [
        ("gpt2", "mlp", OUT, True),
        ("llama", "self_attn", "blocks.1.hook_attn_out", True),
        ("gpt_neox_parallel", "attention", "blocks.1.hook_attn_out", True),
        ("gemma2", "mlp", OUT, False),
        ("gemma3_text", "self_attn", "blocks.1.hook_attn_out", False),
        ("bert", "attention", "blocks.1.hook_attn_out", False),
        ("gemma2", None, OUT, True),
    ],
)
def test_a_module_has_to_be_the_one_at_the_hook(kind, module, hook, fits):
    sae, facts = random_sae("topk", hook=hook), SAEFacts(hook, "topk", (24,), module=module)
    if fits:
        assert fitted(sae, facts, tiny_model(kind)) == (sae, facts)
    else:
        with pytest.raises(ArtifactError, match=f"module {module} gives, which is not {hook}"):
            fitted(sae, facts, tiny_model(kind))
