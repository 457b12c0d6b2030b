"""Plans of runs on ranks: what they count is what ranks do."""

import json

import pytest

from interp.cli import main
from interp.errors import ArtifactError, ConfigError, UnknownHookError
from saes.planning.accelerators import ACCELERATORS, accelerator
from saes.planning.counts import Counts
from saes.planning.exchange import checkpoint_exchange, step_exchange
from saes.planning.model_sizes import TYPED, ModelSizes
from saes.planning.run_plan import forward_flops
from saes.planning.spread_plan import SpreadPlan, counts_from_sizes, plan_spread, step_seconds, step_workspace
from saes.training import TrainConfig
from tests.families import tiny_model
from tests.rank_cases import counted
from tests.ranks import on_ranks

# On a busy machine several processes may take minutes to start.
pytestmark = pytest.mark.timeout(1800)

HOOK = "blocks.1.hook_resid_post"
SETTINGS = {
    "topk": {"sae.architecture": "topk"},
    "batch_topk": {"sae.architecture": "batch_topk"},
    "matryoshka": {"sae.architecture": "matryoshka", "sae.n_prefixes": 5},
    "jumprelu": {"sae.architecture": "jumprelu"},
    "standard": {"sae.architecture": "standard"},
    "gated": {"sae.architecture": "gated"},
    "codebook": {"sae.architecture": "codebook"},
    "stages": {"sae.architecture": "codebook", "sae.codebook_variant": "residual"},
}
SIZE = {"hook": HOOK, "tokens": 64_000, "batch_size": 640, "sae.d_sae": 512, "sae.k": 4}


def _counts(d_in=16, **settings):
    return Counts(TrainConfig.load(None, {**SIZE, **settings}), d_in, 1e6, 1000, 4)


@pytest.fixture(scope="module", params=[2, 4])
def done(request):
    """What ranks did in a step of each architecture."""
    return request.param, on_ranks(request.param, counted, [{**SIZE, **one} for one in SETTINGS.values()])


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_exchanges_what_is_counted(done, name):
    n, ranks = done
    told = step_exchange(_counts(**SETTINGS[name]), n)
    for rank in ranks:
        one = rank[list(SETTINGS).index(name)]
        assert one["parts"] == told["candidates"]
        sums = told["reconstructions"] + told["gradient of b_dec, norms, counts"]
        assert one["sums"] == pytest.approx(sums, rel=0.01)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_rank_holds_its_part_of_what_is_trained(done, name):
    n, ranks = done
    told = plan_spread(_counts(**SETTINGS[name]), n, ACCELERATORS["h100"]).memory_by["SAE, gradients, optimiser"]
    assert ranks[0][list(SETTINGS).index(name)]["trained"] == pytest.approx(told, rel=0.02)


def test_what_grows_with_what():
    """n ranks: each holds 1/n of the dictionary; sums come to a limit of twice their size, candidates grow with n."""
    plans = {n: plan_spread(_counts(d_in=64, **{"sae.d_sae": 4096}), n, ACCELERATORS["h100"]) for n in (1, 2, 4, 64)}
    assert plans[1].exchange_bytes == 0
    for n, plan in plans.items():
        part = plan.memory_by["SAE, gradients, optimiser"]
        assert part == pytest.approx(plans[1].memory_by["SAE, gradients, optimiser"] / n, rel=0.01)
        assert plan.exchange_by["candidates"] == (n - 1) * plans[2].exchange_by["candidates"]
        sums = plan.exchange_by["reconstructions"]
        assert sums == pytest.approx(2 * (n - 1) / n * 4 * 640 * 5 * 64)
        assert plan.seconds_by["harvest"] == pytest.approx(plans[1].seconds_by["harvest"] / n)
        assert plan.seconds == pytest.approx(sum(plan.seconds_by.values()))
        assert plan.memory_bytes == sum(plan.memory_by.values())
        assert plan.disk_bytes == plans[1].disk_bytes
    counts = _counts()
    assert checkpoint_exchange(counts, 4) == 0.75 * counts.checkpoint_bytes


def test_activations_on_disk_are_not_exchanged(tmp_path):
    assert step_exchange(_counts(activations=str(tmp_path)), 4)["activations"] == 0
    assert step_exchange(_counts(), 4)["activations"] > 0


def test_typed_sizes_count_what_a_real_model_counts():
    model = tiny_model("llama")
    sizes = ModelSizes("tiny", 16, model.n_layers, 4, 2, 6, 28, model.d_vocab, tied=False)
    for hook in ("blocks.0.hook_resid_post", "blocks.2.hook_mlp_out"):
        assert sizes.forward_flops(hook, 10) == pytest.approx(forward_flops(model, (hook,), 10))
        assert sizes.width(hook) == model.hook(hook).width
    left_out = sum(p.numel() for name, p in model.hf.named_parameters() if "norm" in name or "bias" in name)
    assert sizes.n_parameters == sum(p.numel() for p in model.hf.parameters()) - left_out
    for hook in ("blocks.9.hook_resid_post", "hook_embed", "blocks.1.attn.hook_z"):
        with pytest.raises(UnknownHookError):
            sizes.width(hook)


@pytest.mark.parametrize(
    ("name", "billions"), [("gpt2", 0.124), ("google/gemma-2-2b", 2.614), ("meta-llama/Llama-3.1-70B", 70.55)]
)
def test_typed_sizes_have_as_many_parameters_as_is_published(name, billions):
    assert TYPED[name].n_parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_quantised_blocks_take_fewer_bytes():
    plain, small = (TYPED[name] for name in ("meta-llama/Llama-3.1-70B", list(TYPED)[-1]))
    assert plain.weight_bytes(2) == 2 * plain.n_parameters
    assert small.weight_bytes(2) == pytest.approx(39.8e9, rel=0.01)


# Tokens per second in float32 with a bfloat16 encoder on an H100, k=32: d, f, b, then of each architecture. Source:
# benchmarks/README.md, `sae_step_cuda.py`.
MEASURED = {
    (768, 24_576, 16_384): {"topk": 3_102_166, "batch_topk": 2_740_037, "matryoshka": 2_588_561},
    (2304, 65_536, 16_384): {"topk": 872_998, "batch_topk": 804_746, "matryoshka": 764_857},
    (4096, 131_072, 32_768): {"topk": 370_460, "batch_topk": 350_326, "matryoshka": 345_352},
}


def _on_h100(size, architecture):
    d, f, b = size
    settings = {"sae.architecture": architecture, "sae.d_sae": f, "sae.k": 32, "sae.encoder_dtype": "bfloat16"}
    return _counts(d, **settings, batch_size=b, tokens=b)


@pytest.mark.parametrize("size", MEASURED)
def test_a_step_on_an_h100_takes_what_was_measured(size):
    """To 8 %: selection over the batch is counted as that per token."""
    for architecture, tokens_per_s in MEASURED[size].items():
        planned = size[2] / step_seconds(_on_h100(size, architecture), 1, accelerator("h100"))
        assert planned / tokens_per_s == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(("architecture", "peak"), [("topk", 25.9e9), ("matryoshka", 27.6e9)])
def test_memory_of_a_step_on_an_h100_is_what_was_measured(architecture, peak):
    """Peaks of all architectures lay between 25.9 and 27.6 GB at d=4,096, without a language model or a buffer."""
    counts = _on_h100((4096, 131_072, 32_768), architecture)
    planned = counts.trained_bytes + step_workspace(counts, 1, accelerator("h100"))
    assert planned == pytest.approx(peak, rel=0.15)


def test_a_plan_is_saved_and_read(tmp_path):
    made = plan_spread(counts_from_sizes(TrainConfig.load("configs/gemma_2_2b.yaml"), TYPED["google/gemma-2-2b"]), 8,
                       accelerator("h100"))  # fmt: skip
    made.save(tmp_path / "plan.json")
    assert SpreadPlan.load(tmp_path / "plan.json") == made
    assert "8 × h100" in made._repr_html_()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no plan of a run on ranks"):
        SpreadPlan.load(tmp_path / "other.json")


def test_the_command_tells_one_plan_or_several(capsys):
    config = ["plan", "configs/llama_70b.yaml", "--on", "h100"]
    assert main([*config, "--ranks", "8", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["n_ranks"], one["fits_memory"]) == (8, True)
    assert "exchange" in one["not_measured"]
    assert main([*config, "--ranks", "1,8", "--json"]) == 0
    assert [plan["n_ranks"] for plan in json.loads(capsys.readouterr().out)["plans"]] == [1, 8]
    assert main([*config, "--ranks", "1,8"]) == 0
    assert "Not measured: forward passes" in " ".join(capsys.readouterr().out.split())
    assert main([*config, "--ranks", "1"]) == 0
    assert "DOES NOT FIT" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("more", [["--ranks", "0"], ["--ranks", "two"], ["--ranks", "2", "--on", "abacus"]])
def test_what_is_no_number_of_ranks_is_refused(capsys, more):
    assert main(["plan", "configs/llama_70b.yaml", *more]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(ConfigError, match="expected one of h100"):
        accelerator("abacus")
