"""What processes of one run exchange, and that none of them waits for one that is lost."""

import pytest
import torch

import interp.distributed as distributed
from interp.activations.harvest import Harvest
from interp.distributed import ALONE, Ranks, check_devices, opened_ranks
from interp.errors import ConfigError
from tests.families import tiny_model
from tests.rank_cases import exchanged, harvested, one_goes
from tests.ranks import on_ranks
from tests.specimens import HOOK, tiny_stream

# On a busy machine several processes may take minutes to start.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def told():
    return on_ranks(3, exchanged)


def test_sums_and_extremes_are_of_all_ranks(told):
    for rank in told:
        assert rank["sum"].tolist() == [6.0, 6.0]
        assert (rank["least"].item(), rank["most"].item()) == (-1.0, 1.0)
        assert rank["total"] == (3.0, 7.5)


def test_gathering_keeps_order_and_format(told):
    for rank in told:
        assert rank["gathered"].dtype == torch.bfloat16
        assert rank["gathered"][:, 0, 1].tolist() == [0.0, 1.0, 2.0]
        assert rank["empty"].shape == (3, 0, 3)


def test_rows_are_taken_apart_and_put_together(told):
    whole = torch.arange(21.0).view(7, 3)
    assert torch.equal(torch.cat([rank["part"] for rank in told]), whole)
    assert torch.equal(told[0]["rows"], whole)
    assert told[1]["rows"] is told[2]["rows"] is None


def test_what_rank_0_does_all_are_told(told):
    assert [rank["first"] for rank in told] == [0, 0, 0]
    assert {rank["fails"] for rank in told} == {"ConfigError: what rank 0 says"}
    assert {rank["same"] for rank in told} == {""}
    assert all("ConfigError: seed: rank 2 has 1, rank 0 has 0" in rank["differs"] for rank in told)


@pytest.mark.parametrize("how", ["ends", "sleeps"])
def test_a_lost_rank_ends_the_others(how):
    """One that ends is noticed long before the time limit for an answer has passed, one that sleeps when it has."""
    for message in on_ranks(3, one_goes, how, awaited=(0, 1))[:2]:
        assert "another rank was lost" in message
        assert "--resume, on fewer ranks too" in message


def test_harvesting_in_turns_is_the_stream_of_one_process(tmp_path):
    model = tiny_model("llama")
    source = Harvest(model, tiny_stream(tmp_path, model), (HOOK, "blocks.0.hook_mlp_out"))
    chunks = source.iter_from({})
    whole = [next(chunks) for _ in range(12)]
    ranks = on_ranks(3, harvested, tmp_path, [{}, whole[4][0]], 7)
    for from_start, from_middle in ranks:
        for got, (cursor, batch) in zip([*from_start, *from_middle], [*whole[:7], *whole[4:11]], strict=True):
            assert got[0] == cursor
            assert all(torch.equal(got[1][hook], x) for hook, x in batch.acts.items())
            assert all(map(torch.equal, got[2:], (batch.token_ids, batch.document, batch.position)))


def test_one_process_alone_exchanges_nothing():
    x = torch.ones(2)
    assert ALONE.add(x) is x
    assert ALONE.gather(x).shape == (1, 2)
    assert ALONE.from_first(lambda: 5) == 5
    with opened_ranks() as ranks:
        assert ranks == Ranks(0, 1)


@pytest.mark.parametrize("text", ["soon", "0", "-3"])
def test_a_time_limit_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv(distributed.TIMEOUT, text)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="expected a number of seconds above zero"), opened_ranks():
        pass


def _gpus(monkeypatch, n, local_rank):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    for name, number in {"WORLD_SIZE": 2, "RANK": local_rank, "LOCAL_RANK": local_rank}.items():
        monkeypatch.setenv(name, str(number))


@pytest.mark.parametrize("index", [0, 1])
def test_ranks_do_not_share_the_gpu_that_is_named(monkeypatch, index):
    _gpus(monkeypatch, 2, local_rank=1)
    check_devices(Ranks(1, 2), torch.device("cuda"))
    check_devices(Ranks(1, 2), torch.device("cpu"))
    check_devices(ALONE, torch.device("cuda", index))
    with pytest.raises(ConfigError, match=rf"device: got cuda:{index} on 2 ranks, .* its own GPU; give cuda$"):
        check_devices(Ranks(1, 2), torch.device("cuda", index))


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    _gpus(monkeypatch, 1, local_rank=1)
    with pytest.raises(ConfigError, match="more ranks than this machine's 1 GPUs; give --nproc-per-node 1"):
        check_devices(Ranks(1, 2), torch.device("cuda"))
