"""What we write, read by SAELens's published formulas and by SAELens itself; what it writes, read by us."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saes.io import load_sae, save_sae
from tests.specimens import random_sae

ARCHITECTURES = ("topk", "batch_topk", "matryoshka", "standard")
NORMS = ("unit", "free")


def _specimen(architecture, norm):
    sae = random_sae(architecture, decoder_norm=norm)
    with torch.no_grad():
        sae.input_scale.fill_(0.6)
    return sae


def _by_formula(folder, x):
    """SAELens 6: sae_lens/saes/{topk,jumprelu,standard}_sae.py, encode and decode."""
    values, w = json.loads((folder / "cfg.json").read_text()), load_file(folder / "sae_weights.safetensors")
    pre = (x - w["b_dec"] * values["apply_b_dec_to_input"]) @ w["W_enc"] + w["b_enc"]
    acts = pre.relu()
    if values["architecture"] == "topk":
        top = pre.topk(values["k"], dim=-1)
        acts = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    elif values["architecture"] == "jumprelu":
        acts = acts * (pre > w["threshold"])
    return acts, acts @ w["W_dec"] + w["b_dec"]


def _agree(sae, x, acts, output):
    code = sae.encode(x)
    assert torch.equal(code.dense() > 0, acts > 0)
    torch.testing.assert_close(code.dense().detach(), acts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sae.decode(code).detach(), output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_folder_means_the_same_by_saelenss_formulas(tmp_path, architecture, norm):
    sae, x = _specimen(architecture, norm), torch.randn(200, 16)
    save_sae(tmp_path / "sae", sae, {})
    _agree(sae, x, *_by_formula(tmp_path / "sae", x))


@pytest.mark.peers
@pytest.mark.timeout(1800)
def test_saelens_itself_reads_ours_and_we_read_its_own(tmp_path):
    from benchmarks.peers import peer_python

    x = torch.randn(200, 16)
    save_file({"x": x}, tmp_path / "inputs.safetensors")
    saes = {f"{name}_{norm}": _specimen(name, norm) for name in ARCHITECTURES for norm in NORMS}
    for name, sae in saes.items():
        save_sae(tmp_path / "ours" / name, sae, {"model": {"name": "tiny"}, "data": {"prepend_bos": True}})
    script = Path(__file__).with_name("saelens_peer.py")
    done = subprocess.run([peer_python(), script, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, sae in saes.items():
        read = load_file(tmp_path / f"{name}.read.safetensors")
        _agree(sae, x, read["acts"], read["output"])
        _agree(load_sae(tmp_path / "ours" / name), x, read["acts"], read["output"])
    theirs = sorted((tmp_path / "theirs").iterdir())
    assert len(theirs) == 5
    for folder in theirs:
        written = load_file(tmp_path / f"{folder.name}.written.safetensors")
        sae = load_sae(folder)
        if folder.name == "topk_rescaled":
            # SAELens keeps activations times the decoder's norm and divides when decoding: so do ours.
            assert sae.W_dec.norm(dim=1).allclose(torch.ones(24))
        _agree(sae, x, written["acts"], written["output"])
    assert load_sae(tmp_path / "theirs" / "matryoshka").config.prefix_widths() == (12, 24)
