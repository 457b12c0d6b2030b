"""What a step asks the device, for which host and device wait for each other: as little as can be."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from saes.host_count import HostCount
from saes.ops.acceleration import acceleration
from tests.steps import batch_of, new_sae, optimiser_of, planted, step

ASKS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique", "bincount", "repeat_interleave")


class Asked(TorchDispatchMode):
    """Counts operators whose result the host reads, or whose shape it must know before it goes on."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        masks = name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1])
        sized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is not None
        if (name in ASKS and not sized) or masks:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "matryoshka"])
def test_a_step_of_kernels_asks_for_the_gradient_norm_alone(architecture):
    """Selection, of the kernels' own, apart. The other number was never on the device: how many passes it took."""
    pytest.importorskip("triton", reason="triton is not installed: pip install triton")
    with acceleration("triton"):
        sae = new_sae(architecture, d_sae=16, k=2, n_sample=50)
        optimiser = optimiser_of(sae)
        step(sae, optimiser, batch_of(planted(6)))
        with Asked() as asked:
            step(sae, optimiser, batch_of(planted(6, seed=1)))
    assert asked.names == ["_local_scalar_dense"] * 2


def test_no_device_is_asked_which_features_are_dead_while_none_can_be():
    sae = new_sae("topk", d_sae=16, k=2, token_budget=10_000)
    optimiser = optimiser_of(sae)
    n_asked = []
    for i in range(12):
        with Asked() as asked:
            dead = sae.dead_features()
        n_asked.append(len(asked.names))
        assert dead.tolist() == (sae.tokens_since_fired >= 500).nonzero()[:, 0].tolist()
        step(sae, optimiser, batch_of(planted(50, seed=i)))
    # The first reads the counter; ten batches of 50 later one might be dead.
    assert n_asked[0] == 1
    assert n_asked[1:10] == [0] * 9
    assert n_asked[10] > 0


def test_dead_features_are_found_whoever_changed_the_counter():
    sae = new_sae("topk", d_sae=16, k=2, token_budget=10_000)
    assert sae.dead_features().tolist() == []
    sae.tokens_since_fired[3] = 500
    assert sae.dead_features().tolist() == [3]
    sae.load_state_dict({**sae.state_dict(), "tokens_since_fired": torch.arange(16) * 100})
    assert sae.dead_features().tolist() == list(range(5, 16))
    sae.restart(torch.arange(5, 16))
    assert sae.dead_features().tolist() == []


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
