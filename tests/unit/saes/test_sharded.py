"""One dictionary over several gloo processes takes the very step of one process: in float64 to 1e-12."""

import pytest
import torch

from interp.distributed import Ranks
from interp.errors import ConfigError
from saes.config import SAEConfig
from saes.ops.select import select_per_batch, select_per_token
from saes.sharded_create import create_sharded
from saes.sharded_training import TrainConfig, check_config
from tests.ranks import on_ranks
from tests.sharded_cases import Case, Chosen, by_kernels, merged, one_of_many, one_process, tied

# On a busy machine several processes may take minutes to start.
pytestmark = pytest.mark.timeout(1800)

# After the second step of three: the third goes on with what was resampled.
SOON = {"d_sae": 50, "dead_features": "resample", "resample_at": (0.015,)}
# The same of so few tokens that not every code fires.
FEW = {**SOON, "resample_at": (0.0006,)}
GROUPS = {"architecture": "codebook", "codebook_variant": "grouped", "d_sae": 48, "n_groups": 4}
STAGES = {"architecture": "codebook", "codebook_variant": "residual", "d_sae": 48, "n_stages": 4}
# 50 features do not divide by 4: ranks differ in size.
CASES = {
    "topk": Case({"architecture": "topk", "d_sae": 50}),
    "batch_topk": Case({"architecture": "batch_topk", "d_sae": 50}, n_steps=3),
    "matryoshka": Case({"architecture": "matryoshka", "d_sae": 50, "prefixes": (5, 13, 30, 50)}, n_steps=3),
    "mean_with_bias": Case({"architecture": "matryoshka", "d_sae": 48, "loss_variant": "mean_with_bias"}),
    "drawn prefixes": Case(
        {"architecture": "matryoshka", "d_sae": 48, "prefix_sampling": "pareto", "n_prefixes": 4}, n_steps=2
    ),
    "nested topk": Case({"architecture": "topk", "d_sae": 50, "nest": True, "prefixes": (20, 50)}),
    "free norms": Case({"architecture": "batch_topk", "d_sae": 50, "decoder_norm": "free"}, dead=9),
    "jumprelu": Case({"architecture": "jumprelu", "d_sae": 50, "bandwidth": 0.5}, n_steps=3),
    "jumprelu tanh": Case({"architecture": "jumprelu", "d_sae": 50, "l0_penalty": "tanh"}, dead=5),
    "jumprelu, dense": Case({"architecture": "jumprelu", "d_sae": 50, "threshold_start": 0.01}, starts="fresh"),
    "few dead": Case({"architecture": "topk", "d_sae": 50, "k_aux": 9}, dead=3, n_steps=2),
    "many dead": Case({"architecture": "matryoshka", "d_sae": 48, "k_aux": 4}, dead=30, n_steps=2),
    "dead at one rank": Case({"architecture": "topk", "d_sae": 50, "k_aux": 9}, dead=1),
    "standard": Case({"architecture": "standard", "d_sae": 50}, n_steps=3),
    "standard, dense": Case({"architecture": "standard", "d_sae": 50}, starts="fresh"),
    "standard, free norms": Case({"architecture": "standard", "d_sae": 50, "decoder_norm": "free"}, n_steps=2),
    "standard, its own weight": Case({"architecture": "standard", "d_sae": 50, "l1_coefficient": 0.5}),
    "standard, resampled": Case({"architecture": "standard", **SOON}, dead=6, n_steps=3),
    "standard, aux": Case({"architecture": "standard", "d_sae": 50, "dead_features": "aux"}, dead=6),
    "gated": Case({"architecture": "gated", "d_sae": 50}, n_steps=3),
    "gated, dense": Case({"architecture": "gated", "d_sae": 50}, starts="fresh"),
    "gated, resampled": Case({"architecture": "gated", **SOON}, dead=6, n_steps=3),
    "gated, nested": Case({"architecture": "gated", "d_sae": 48, "nest": True}, n_steps=2),
    "jumprelu, resampled": Case({"architecture": "jumprelu", "bandwidth": 0.5, **SOON}, dead=6, n_steps=3),
    "free norms, resampled": Case({"architecture": "batch_topk", "decoder_norm": "free", **SOON}, dead=6, n_steps=3),
    "more dead than tokens": Case(
        {"architecture": "standard", **SOON, "resample_at": (0.004,)}, dead=40, n_steps=3, n_tokens=24
    ),
    "transcoder": Case({"architecture": "topk", "d_sae": 50}, dead=6, n_steps=2, wiring="transcoder"),
    "transcoder, batch": Case({"architecture": "batch_topk", "d_sae": 50}, n_steps=2, wiring="transcoder"),
    "transcoder, nested": Case({"architecture": "matryoshka", "d_sae": 48}, n_steps=2, wiring="transcoder"),
    "transcoder, standard": Case({"architecture": "standard", **SOON}, dead=6, n_steps=3, wiring="transcoder"),
    "transcoder, jumprelu": Case({"architecture": "jumprelu", "d_sae": 50}, n_steps=2, wiring="transcoder"),
    "skip": Case({"architecture": "topk", "d_sae": 50}, dead=6, n_steps=2, wiring="skip"),
    "skip, bias counted": Case(
        {"architecture": "matryoshka", "d_sae": 48, "loss_variant": "mean_with_bias"}, n_steps=2, wiring="skip"
    ),
    "skip, dense": Case({"architecture": "standard", "d_sae": 50}, starts="fresh", n_steps=2, wiring="skip"),
    "crosscoder": Case({"architecture": "topk", "d_sae": 50}, dead=6, n_steps=2, wiring="crosscoder"),
    "crosscoder, batch": Case({"architecture": "batch_topk", "d_sae": 50}, n_steps=2, wiring="crosscoder"),
    "crosscoder, nested": Case({"architecture": "matryoshka", "d_sae": 48}, n_steps=2, wiring="crosscoder"),
    "crosscoder, standard": Case({"architecture": "standard", **SOON}, dead=6, n_steps=3, wiring="crosscoder"),
    "crosscoder, gated": Case({"architecture": "gated", **SOON}, dead=6, n_steps=3, wiring="crosscoder"),
    "crosscoder, jumprelu": Case({"architecture": "jumprelu", "d_sae": 50}, n_steps=2, wiring="crosscoder"),
    "codebook": Case({"architecture": "codebook", "d_sae": 50}, starts="fresh", n_steps=3),
    "codebook, nested": Case({"architecture": "codebook", "d_sae": 48, "nest": True}, starts="fresh", n_steps=2),
    "codebook, mean": Case({**GROUPS, "code_sum": "mean"}, starts="fresh", n_steps=3),
    # More codes than there are ranks' features to a part, and parts that begin at one rank and end at another.
    "codebook, groups": Case({**GROUPS, "n_groups": 2, "d_sae": 52, "k": 8}, starts="fresh", n_steps=3),
    "codebook, stages": Case({**STAGES, "n_stages": 3, "k": 6}, starts="fresh", n_steps=3),
    "codebook, dense": Case({**STAGES, "k": 40}, starts="fresh", n_steps=2),
    "codebook, resampled": Case({"architecture": "codebook", **FEW}, dead=50, starts="fresh", n_steps=3, n_tokens=4),
    "stages, resampled": Case({**STAGES, **FEW, "d_sae": 48}, dead=48, starts="fresh", n_steps=3, n_tokens=4),
    "groups, resampled": Case({**GROUPS, **FEW, "d_sae": 48}, dead=48, starts="fresh", n_steps=3, n_tokens=4),
    "one feature more than k": Case({"architecture": "topk", "d_sae": 20, "k": 5}),
}
SIZES = [(7, 33, 4), (64, 50, 3), (40, 64, 8), (5, 40, 10), (1, 12, 1)]


@pytest.fixture(scope="module", params=[2, 4])
def spread(request):
    """What every rank says of every case."""
    return on_ranks(request.param, one_of_many, list(CASES.values()))


@pytest.fixture(scope="module")
def alone():
    """The same by one process."""
    return {name: one_process(case) for name, case in CASES.items()}


def _largest_difference(got, expected):
    assert got.keys() == expected.keys()
    return {
        name: float((got[name].double() - x.double()).abs().max()) / max(1.0, float(x.double().abs().max()))
        for name, x in expected.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_that_of_one_process(spread, alone, name):
    index, expected = list(CASES).index(name), alone[name]
    whole = spread[0][index]
    differences = _largest_difference(whole.tensors, expected.tensors) | _largest_difference(
        whole.slots, expected.slots
    )
    assert {key: value for key, value in differences.items() if not value < 1e-12} == {}
    for rank in spread:
        assert rank[index].norms == pytest.approx(expected.norms, rel=1e-12)
        for got, wanted in zip(rank[index].terms, expected.terms, strict=True):
            assert got == pytest.approx(wanted, rel=1e-11, abs=1e-12)


RESAMPLED = [name for name, case in CASES.items() if case.dead and case.n_steps == 3]


@pytest.mark.parametrize("name", RESAMPLED)
def test_dead_features_of_all_ranks_start_anew_from_the_tokens_of_one_process(spread, alone, name):
    """As many as there are tokens; that their rows are those of one process is asked of every step."""
    case, before = CASES[name], CASES[name].whole()
    codes = case.sae["architecture"] == "codebook"
    dead = case.dead_features().sort().values
    for tensors in (alone[name].tensors, spread[0][list(CASES).index(name)].tensors):
        new = (tensors["W_dec"] - before.W_dec.detach())[dead].norm(dim=1) > 0.1
        waits = tensors["tokens_since_fired"][dead] >= 10**9
        # A code fires where no other is nearer: those that did by chance were not dead.
        assert bool(new.any()) if codes else new.sum() == min(case.dead, case.n_tokens)
        assert not (new & waits).any()


@pytest.mark.parametrize("name", CASES)
def test_every_rank_has_the_same_bytes_of_what_all_hold(spread, name):
    index = list(CASES).index(name)
    assert all(torch.equal(rank[index].bias, spread[0][index].bias) for rank in spread)
    assert all(rank[index].terms == spread[0][index].terms for rank in spread)


@pytest.mark.parametrize("name", ["batch_topk", "many dead", "jumprelu, dense", "gated, resampled", "skip"])
def test_one_rank_alone_is_one_process(alone, name):
    (done,) = one_of_many(Ranks(), [CASES[name]])
    for of_whole, expected in ((done.tensors, alone[name].tensors), (done.slots, alone[name].slots)):
        assert {key: value for key, value in _largest_difference(of_whole, expected).items() if not value < 1e-12} == {}


@pytest.mark.parametrize("n", [1, 2])
def test_parts_take_the_same_steps_by_the_kernels_of_a_gpu(n):
    """The optimiser that does it all in one pass over the rows is among them: it clips by the norm of all ranks."""
    pytest.importorskip("triton", reason="triton is not installed: pip install triton")
    more = {"dead": 2, "n_tokens": 6, "dtype": torch.float32}
    cases = [Case({"architecture": name, "d_sae": 16, "k": 2}, **more) for name in ("topk", "matryoshka")]
    cases.append(Case({"architecture": "topk", "d_sae": 16, "k": 2}, wiring="skip", **more))
    found = by_kernels(Ranks(), cases) if n == 1 else on_ranks(n, by_kernels, cases)[0]
    for case, got in zip(cases, found, strict=True):
        expected = one_process(case)
        assert (got.optimiser, expected.optimiser) == ("RowAdam", "Adam")
        assert got.norms == pytest.approx(expected.norms, rel=1e-4)
        for name, x in expected.tensors.items():
            torch.testing.assert_close(got.tensors[name], x, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("n", [2, 4])
def test_merged_selections_are_exact_where_entries_tie(n):
    found = on_ranks(n, merged, SIZES)
    for case, (n_tokens, d_sae, k) in enumerate(SIZES):
        pre = tied(n_tokens, d_sae, case)
        for which, select in enumerate((select_per_token, select_per_batch)):
            expected = Chosen.of(select(pre, k).code)
            parts = [rank[case][which] for rank in found]
            rows, features, values = (torch.cat([getattr(p, a) for p in parts]) for a in ("rows", "features", "values"))
            order = (rows * d_sae + features).argsort()
            assert torch.equal(rows[order], expected.rows)
            assert torch.equal(features[order], expected.features)
            assert torch.equal(values[order], expected.values)


@pytest.mark.parametrize("n", [2, 4])
def test_a_hundred_float32_steps_keep_the_loss(n):
    """Order of summation alone moves weights in float32: the loss of each step agrees to 1e-5."""
    kinds = {"matryoshka": {"prefixes": (6, 12, 24, 48)}, "batch_topk": {}, "topk": {}}
    cases = [
        Case({"architecture": kind, "d_sae": 48, **more}, n_steps=100, dtype=torch.float32, starts="fresh", lr=1e-3)
        for kind, more in kinds.items()
    ]
    for case, spread in zip(cases, on_ranks(n, one_of_many, cases)[0], strict=True):
        expected, got = (
            torch.tensor([terms["loss"] for terms in outcome.terms]) for outcome in (one_process(case), spread)
        )
        assert expected[-10:].mean() < 0.8 * expected[:10].mean()
        assert ((got - expected).abs() / expected).max() < 1e-5


@pytest.mark.parametrize(
    ("sae", "message"),
    [
        (
            {"architecture": "codebook", "codebook_variant": "latent", "d_sae": 256},
            "got latent on 4 ranks; expected plain",
        ),
        ({"architecture": "topk", "d_sae": 30, "k": 8}, "each needs at least k = 8"),
        ({"architecture": "standard", "d_sae": 3}, "each needs at least one; start fewer ranks"),
    ],
)
def test_what_cannot_be_spread_is_refused(sae, message):
    with pytest.raises(ConfigError, match=message):
        create_sharded(SAEConfig(**sae), 16, Ranks(0, 4), hooks_in=("h",))


def test_an_optimiser_of_whole_matrices_is_refused():
    config = TrainConfig(hook="blocks.1.hook_resid_post", optimiser="muon")
    with pytest.raises(ConfigError, match="optimiser: got muon, which needs whole matrices, on 2 ranks"):
        check_config(config, Ranks(0, 2))


def test_parts_cover_the_features_once_and_are_even():
    for n in range(1, 9):
        spans = [Ranks(rank, n).span(50) for rank in range(n)]
        assert [first for first, _ in spans] == [0, *(last for _, last in spans[:-1])]
        assert spans[-1][1] == 50
        sizes = [last - first for first, last in spans]
        assert max(sizes) - min(sizes) <= 1
