import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saes.io import load_sae, save_sae
from tests.specimens import random_sae


@settings(max_examples=20, deadline=None)
@given(
    architecture=st.sampled_from(["topk", "batch_topk", "matryoshka", "standard"]),
    d_in=st.integers(1, 9),
    d_sae=st.integers(3, 40),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_saving_and_loading_changes_no_code(architecture, d_in, d_sae, seed, data):
    sae = random_sae(architecture, d_in=d_in, d_sae=d_sae, k=data.draw(st.integers(1, d_sae)), seed=seed)
    x = torch.randn(20, d_in, generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as folder:
        save_sae(Path(folder) / "sae", sae, {})
        back = load_sae(Path(folder) / "sae")
    code, other = sae.encode(x), back.encode(x)
    assert torch.equal(code.values, other.values)
    assert torch.equal(code.features, other.features)
    assert torch.equal(code.row_offsets, other.row_offsets)
