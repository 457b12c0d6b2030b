"""Training that begins with a saved SAE begins with its function."""

import pytest
import torch

from interp.errors import ArtifactError
from saes import save_sae
from saes.group_max import GroupMaxSAE
from saes.warm_start import warm_start
from tests.specimens import random_sae
from tests.steps import batch_of, disturb, new_sae, planted

KINDS = [
    *((name, "plain") for name in ("topk", "batch_topk", "matryoshka", "standard", "gated", "jumprelu")),
    *((name, "transcoder") for name in ("topk", "batch_topk", "standard", "jumprelu")),
    *((name, "skip") for name in ("topk", "jumprelu")),
    *((name, "crosscoder") for name in ("topk", "batch_topk", "standard", "gated", "jumprelu")),
]


def saved(folder, architecture, wiring="plain", **config):
    sae = disturb(new_sae(architecture, wiring, **config))
    if architecture in ("batch_topk", "matryoshka"):
        sae.threshold.fill_(0.8)
    if wiring == "skip":
        with torch.no_grad():
            sae.wiring.W_skip.normal_(0, 0.1)
    save_sae(folder / "sae", sae, {})
    return sae


@pytest.mark.parametrize("norm", ["unit", "free"])
@pytest.mark.parametrize(("architecture", "wiring"), KINDS)
def test_the_function_is_the_saved_one_before_any_step(architecture, wiring, norm, tmp_path):
    old = saved(tmp_path, architecture, wiring)
    # Another sample, thrice as large: other scales and centres.
    new = new_sae(architecture, wiring, decoder_norm=norm, seed=8, n_sample=500)
    if wiring != "crosscoder":
        new.input_scale.mul_(1.7)
    x = batch_of(planted(300, seed=5)).stacked(old.hooks_in)
    warm_start(new, tmp_path)
    old, new = old.folded(), new.folded()
    code, other = old.encode(x), new.encode(x)
    assert torch.equal(code.features, other.features)
    torch.testing.assert_close(code.values, other.values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(old.decode(code), new.decode(other), rtol=1e-4, atol=1e-4)


def test_one_path_serves_as_both_of_a_gated_sae(tmp_path):
    old, new, x = saved(tmp_path, "standard"), new_sae("gated", seed=8), planted(100)
    warm_start(new, tmp_path / "sae")
    torch.testing.assert_close(new.encode(x).dense(), old.encode(x).dense(), rtol=1e-4, atol=1e-4)


def test_one_threshold_serves_all_of_a_jumprelu(tmp_path):
    old, new, x = saved(tmp_path, "batch_topk"), new_sae("jumprelu", seed=8), planted(100)
    warm_start(new, tmp_path)
    torch.testing.assert_close(new.encode(x).dense(), old.encode(x).dense(), rtol=1e-4, atol=1e-4)


def test_a_skip_connection_may_be_added(tmp_path):
    old, new, x = saved(tmp_path, "topk", "transcoder"), new_sae("topk", "skip", seed=8), planted(100)
    warm_start(new, tmp_path)
    folded = new.folded()
    torch.testing.assert_close(folded.decode(folded.encode(x)), old.decode(old.encode(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ({"d_sae": 40}, {}, "40 features from width 16 to 16 at h; expected 48"),
        ({}, {"wiring": "transcoder"}, "h"),
        ({"wiring": "transcoder"}, {}, "h -> y"),
        ({"wiring": "crosscoder"}, {}, "h, y"),
        ({}, {"wiring": "crosscoder"}, "h, y"),
        ({"wiring": "skip"}, {"wiring": "transcoder"}, "sae.skip"),
    ],
)
def test_what_does_not_fit_is_one_line(old, new, match, tmp_path):
    saved(tmp_path, "topk", **old)
    sae = new_sae("topk", **new)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    with pytest.raises(ArtifactError, match=match) as told:
        warm_start(sae, tmp_path)
    assert "\n" not in str(told.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in sae.state_dict().items())


def test_other_hooks_of_the_same_width_are_refused(tmp_path):
    save_sae(tmp_path / "sae", random_sae("topk", d_in=16, d_sae=48, k=4, hook="elsewhere"), {})
    with pytest.raises(ArtifactError, match="elsewhere"):
        warm_start(new_sae("topk"), tmp_path)


def test_none_there_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="no such"):
        warm_start(new_sae("topk"), tmp_path / "none")


def test_what_cannot_be_trained_is_refused(tmp_path, monkeypatch):
    import saes.warm_start

    config = new_sae("topk").config
    monkeypatch.setattr(saes.warm_start, "load_sae", lambda *_, **__: GroupMaxSAE(config, 16, hooks_in=("h",)))
    with pytest.raises(ArtifactError, match="GroupMaxSAE"):
        warm_start(new_sae("topk"), tmp_path)
