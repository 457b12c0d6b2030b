"""What a step asks the device, for which host and device wait for each other: as little as can be."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from interp.code import ActivationBatch
from saes.host_count import HostCount
from saes.known_dead import KnownDead
from saes.ops.acceleration import acceleration
from tests.steps import batch_of, new_sae, optimiser_of, planted, step

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ASKS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique", "bincount", "repeat_interleave")


class Asked(TorchDispatchMode):
    """Counts what the host reads of tensors, or whose shape it must know before it goes on."""

    def __init__(self):
        super().__init__()
        self.names = []
        self._tolist = torch.Tensor.tolist

    def __enter__(self):
        def tolist(tensor):
            # On a processor no operator tells of it.
            self.names.append("tolist")
            return self._tolist(tensor)

        torch.Tensor.tolist = tolist
        return super().__enter__()

    def __exit__(self, *error):
        torch.Tensor.tolist = self._tolist
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        masks = name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1])
        sized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is not None
        if (name in ASKS and not sized) or masks:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def _batch(seed):
    batch = batch_of(planted(6, seed=seed))
    indices = (x.to(DEVICE) for x in (batch.token_ids, batch.document, batch.position))
    return ActivationBatch({hook: x.to(DEVICE) for hook, x in batch.acts.items()}, *indices)


@contextmanager
def _waits_of_a_gpu():
    """What the driver itself says of waiting: copies from the host too, which no operator tells of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield told
        finally:
            if DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "matryoshka"])
@pytest.mark.parametrize("n_dead", [0, 3])
def test_a_step_of_kernels_asks_for_the_gradient_norm_and_then_for_the_dead(architecture, n_dead):
    """The last number was never on the device: how many passes selection took."""
    pytest.importorskip("triton", reason="triton is not installed: pip install triton")
    with acceleration("triton"):
        sae = new_sae(architecture, d_sae=64, k=2, n_sample=50, token_budget=10_000).to(DEVICE)
        with torch.no_grad():
            sae.b_enc[:n_dead] = -1e3
        sae.tokens_since_fired[:n_dead] = 10_000
        optimiser = optimiser_of(sae)
        step(sae, optimiser, _batch(0))
        batch = _batch(1)
        with Asked() as asked, _waits_of_a_gpu() as waits:
            report = step(sae, optimiser, batch)
    assert report.holds is not None
    assert ("aux" in report.terms) == (n_dead > 0)
    assert asked.names == ["_local_scalar_dense", *["nonzero"] * (n_dead > 0), "_local_scalar_dense"]
    assert DEVICE == "cpu" or len(waits) == 1 + (n_dead > 0)


def test_a_jumprelu_step_asks_for_its_number_of_candidates_too():
    pytest.importorskip("triton", reason="triton is not installed: pip install triton")
    with acceleration("triton"):
        sae = new_sae("jumprelu", d_sae=64, k=2, n_sample=50).to(DEVICE)
        optimiser = optimiser_of(sae)
        step(sae, optimiser, _batch(0))
        batch = _batch(1)
        with Asked() as asked, _waits_of_a_gpu() as waits:
            step(sae, optimiser, batch)
    # Candidates, the norm, passes of the selection (never on the device), and L0 for its control, when all is done.
    assert asked.names == ["tolist", "_local_scalar_dense", "_local_scalar_dense", "_local_scalar_dense"]
    assert DEVICE == "cpu" or len(waits) == 3


def test_no_device_is_asked_which_features_are_dead_while_none_can_be():
    counter, dead, n_asked, n_found = torch.zeros(4, dtype=torch.int64), KnownDead(), [], []
    for i in range(24):
        with Asked() as asked:
            found = dead.of(counter, 500)
        # Who made it grow has asked already.
        assert len(asked.names) == (i == 0)
        assert found.tolist() == (counter >= 500).nonzero()[:, 0].tolist()
        n_found.append(len(found))
        with Asked() as asked, dead.grows(counter, 50):
            counter.add_(50)
            counter[0] = 0
            if i < 12:
                counter[1:] = 0
        n_asked.append(len(asked.names))
    # Ten steps later one might be dead; as none is, how silent they are is read again.
    assert n_asked[:9] == [0] * 9
    assert n_asked[9] > 0
    assert n_found[-2:] == [3, 3]
    assert max(n_found[:-2]) == 0


def test_dead_features_are_found_whoever_changed_the_counter():
    sae = new_sae("topk", d_sae=16, k=2, token_budget=10_000)
    assert sae.dead_features().tolist() == []
    sae.tokens_since_fired[3] = 500
    assert sae.dead_features().tolist() == [3]
    sae.load_state_dict({**sae.state_dict(), "tokens_since_fired": torch.arange(16) * 100})
    assert sae.dead_features().tolist() == list(range(5, 16))
    sae.restart(torch.arange(5, 16))
    assert sae.dead_features().tolist() == []


def test_dead_features_found_in_inference_mode_serve_training():
    sae = new_sae("topk", d_sae=16, k=2, token_budget=10_000)
    sae.tokens_since_fired[3] = 500
    with torch.inference_mode():
        assert "aux" in sae.losses(batch_of(planted(6))).terms
    step(sae, optimiser_of(sae), batch_of(planted(6)))


def test_a_count_is_read_once_and_again_after_every_change_of_others():
    counter, count, n_read = torch.zeros((), dtype=torch.int64), HostCount(), []

    def read(x):
        n_read.append(1)
        return int(x)

    for expected in range(3):
        assert count.of(counter, read) == expected
        with count.grows(counter, 1):
            counter.add_(1)
    assert len(n_read) == 1
    counter.fill_(9)
    assert count.of(counter, read) == 9
    assert count.of(counter.clone().add_(1), read) == 10
    assert len(n_read) == 3
