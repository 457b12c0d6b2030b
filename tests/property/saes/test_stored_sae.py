"""What may be folded into weights, and what it must leave alone."""

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saes.facts import SAEFacts
from saes.formats.stored import StoredSAE

D_IN, D_SAE = 5, 7
positive = st.floats(0.1, 10)


def _stored(activation, seed, *, subtract):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return StoredSAE(
        activation=activation,
        W_enc=random(D_SAE, D_IN),
        W_dec=random(D_SAE, D_IN),
        b_enc=random(D_SAE),
        b_dec=random(D_IN),
        threshold=random(D_SAE).abs() if activation == "jumprelu" else None,
        r_mag=random(D_SAE) if activation == "gated" else None,
        b_mag=random(D_SAE) if activation == "gated" else None,
        k=3 if activation == "topk" else None,
        subtract_b_dec=subtract,
        facts=SAEFacts("blocks.0.hook_resid_post", activation, (D_SAE,)),
    )


cases = given(
    activation=st.sampled_from(["relu", "topk", "jumprelu", "gated"]),
    seed=st.integers(0, 1000),
    subtract=st.booleans(),
    scale=positive,
)


def _run(stored, x):
    sae = stored.build()
    with torch.no_grad():
        code = sae.encode(x)
        return code.dense(), sae.decode(code)


@settings(max_examples=40, deadline=None)
@cases
def test_folding_a_scale_is_scaling_input_and_output(activation, seed, subtract, scale):
    stored, x = _stored(activation, seed, subtract=subtract), torch.randn(9, D_IN, dtype=torch.float64)
    acts, output = _run(stored, scale * x)
    folded_acts, folded_output = _run(stored.scaled(scale), x)
    torch.testing.assert_close(folded_acts, acts, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(folded_output, output / scale, rtol=1e-8, atol=1e-8)


@settings(max_examples=40, deadline=None)
@cases
def test_scaling_features_scales_their_values_and_nothing_else(activation, seed, subtract, scale):
    if activation == "topk":
        # Which features are largest may change, unless all change alike.
        factor = torch.full((D_SAE,), scale, dtype=torch.float64)
    else:
        factor = torch.linspace(0.5, scale + 0.5, D_SAE, dtype=torch.float64)
    stored, x = _stored(activation, seed, subtract=subtract), torch.randn(9, D_IN, dtype=torch.float64)
    acts, output = _run(stored, x)
    scaled_acts, scaled_output = _run(stored.with_feature_scale(factor), x)
    torch.testing.assert_close(scaled_acts, acts * factor, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(scaled_output, output, rtol=1e-8, atol=1e-8)


@settings(max_examples=20, deadline=None)
@cases
def test_taking_b_dec_off_a_second_time_does_nothing_if_there_is_none(activation, seed, subtract, scale):
    stored = replace(_stored(activation, seed, subtract=subtract), b_dec=torch.zeros(D_IN, dtype=torch.float64))
    x = scale * torch.randn(9, D_IN, dtype=torch.float64)
    other = replace(stored, subtract_b_dec=not subtract)
    for one, two in zip(_run(stored, x), _run(other, x), strict=True):
        assert torch.equal(one, two)
