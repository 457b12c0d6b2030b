"""Circuits: everything kept is the model, nothing kept is the baseline, edges add up to nodes, random ones match."""

import numpy as np
import pytest
import torch

from interp.attribution import attribution_patching
from interp.circuits import OUTCOME, Circuit
from interp.component_circuits import PartsKept, component_circuit, component_curve
from interp.components import Component
from interp.errors import ArtifactError, ConfigError
from interp.faithfulness import FaithfulnessCurve, Ranking, Scale, curve_sizes, faithfulness_curve
from interp.feature_circuits import feature_circuit, feature_curves, outcome_of, score_nodes
from interp.feature_nodes import FeatureNodes, mean_baseline
from interp.feature_sites import sites_of
from interp.forward import last_outputs
from interp.models import Model
from interp.node_effects import Node, edge_effects, node_effects
from interp.outcomes import LOGIT_DIFFERENCE
from tests.dictionaries import RandomDictionary
from tests.families import tiny_model
from tests.unit.interp.test_attribution import linear_model, made_pairs

RESID = [f"blocks.{layer}.hook_resid_post" for layer in range(3)]
N_FEATURES = 24


def dictionaries(model: Model, *, linear: bool = False) -> list[RandomDictionary]:
    """One SAE in the stream, one transcoder of an MLP, one SAE of an MLP's output."""
    hooks = [
        (RESID[0], RESID[0]),
        ("blocks.1.ln2.hook_out", "blocks.1.hook_mlp_out"),
        (RESID[1], RESID[1]),
    ]
    return [
        RandomDictionary(reads, writes, model.d_model, N_FEATURES, seed=seed, linear=linear)
        for seed, (reads, writes) in enumerate(hooks)
    ]


def made_nodes(*, linear: bool = False) -> FeatureNodes:
    model = linear_model() if linear else tiny_model("gpt2")
    model.hf.double()
    return FeatureNodes.of_pairs(model, sites_of(model, dictionaries(model, linear=linear)), made_pairs())


def test_everything_kept_is_the_model_and_nothing_kept_the_corrupt_one() -> None:
    nodes, pairs = made_nodes(), made_pairs()
    with torch.no_grad():
        clean, corrupt = (
            LOGIT_DIFFERENCE(last_outputs(nodes.model, run), pairs.clean) for run in (pairs.clean, pairs.corrupt)
        )
    full = outcome_of(nodes, LOGIT_DIFFERENCE, nodes.all_kept(features=True), errors=True)
    empty = outcome_of(nodes, LOGIT_DIFFERENCE, nodes.all_kept(features=False), errors=False)
    np.testing.assert_array_equal(full, clean.numpy())
    # The last site cuts the whole stream, so that nothing of the clean prompts is left.
    np.testing.assert_allclose(empty, corrupt.numpy(), atol=1e-12, rtol=0)


def test_curves_run_from_nothing_to_everything() -> None:
    nodes = made_nodes()
    scores = score_nodes(nodes, LOGIT_DIFFERENCE, n_steps=2)
    both = feature_curves(nodes, scores, LOGIT_DIFFERENCE, sizes=(0, 8, 3 * N_FEATURES), n_random=3, seed=1)
    with_errors, without = both
    assert with_errors.faithfulness[-1] == pytest.approx(1, abs=1e-12)
    assert without.faithfulness[0] == pytest.approx(0, abs=1e-12)
    # Keeping all but nothing is keeping everything.
    assert with_errors.rest[0] == pytest.approx(1, abs=1e-12)
    assert without.rest[-1] == pytest.approx(0, abs=1e-12)
    assert without.faithfulness[-1] != pytest.approx(1, abs=1e-3)
    assert np.isfinite(without.random[:, 1]).all()
    assert np.isnan(without.random[:, [0, 2]]).all()


def test_batches_of_prompts_change_nothing() -> None:
    nodes = made_nodes()
    whole, split = (score_nodes(nodes, LOGIT_DIFFERENCE, n_steps=2, batch_size=size) for size in (64, 3))
    np.testing.assert_allclose(split.effect, whole.effect, rtol=1e-9, atol=1e-12)


def test_on_a_linear_model_a_nodes_effect_is_its_ablation() -> None:
    nodes = made_nodes(linear=True)
    scores = score_nodes(nodes, LOGIT_DIFFERENCE, n_steps=1)
    found = feature_circuit(nodes, scores, LOGIT_DIFFERENCE, node_threshold=0.0, edge_threshold=0.0, n_verified=20)
    measured = [node for node in found.nodes if node.ablation is not None]
    assert len(measured) == 20
    for node in measured:
        assert node.ablation == pytest.approx(node.effect, abs=1e-12), node.name


def test_features_and_error_of_a_hook_add_up_to_the_hook() -> None:
    """What a dictionary splits is the attribution of the whole activation."""
    nodes, pairs = made_nodes(), made_pairs()
    effects = node_effects(nodes, LOGIT_DIFFERENCE, n_steps=20)
    last = RESID[1]
    total = effects.features[last].sum(1) + effects.errors[last]
    scale = score_nodes(nodes, LOGIT_DIFFERENCE, n_steps=1).scale
    # Integrated along its own activations a cut through the whole model is complete.
    np.testing.assert_allclose(total, scale.empty - scale.full, rtol=2e-3)
    feature = Component("feature", last, 3)
    dictionary = nodes.sites[last].dictionary
    patched = attribution_patching(
        nodes.model, pairs, [feature], LOGIT_DIFFERENCE, direction="noising", dictionaries={last: dictionary}
    )
    plain = gradient_share(nodes, last, 3)
    assert patched.effect[0, 0] == pytest.approx(plain, rel=1e-6)


def gradient_share(nodes: FeatureNodes, hook: str, feature: int) -> float:
    """A feature's first-order effect by finite differences of passes in which it moves towards the baseline."""
    site = nodes.sites[hook]

    def at(step: float) -> torch.Tensor:
        def move(x: torch.Tensor) -> torch.Tensor:
            own = site.encoded(x).values
            change = (nodes.baseline.values[hook] - own)[:, :, feature, None] * site.rows[feature]
            return x + step * change * nodes.readable[:, :, None]

        with torch.no_grad():
            return LOGIT_DIFFERENCE(last_outputs(nodes.model, nodes.prompts, {hook: move}), nodes.prompts)

    with torch.no_grad():
        corrupt = LOGIT_DIFFERENCE(last_outputs(nodes.model, made_pairs().corrupt), nodes.prompts)
    return float(((at(1e-5) - at(-1e-5)) / 2e-5).sum() / (corrupt - at(0)).sum())


def test_edges_out_of_a_node_add_up_to_it() -> None:
    """Over every feature and the error of the next hook that everything passes, to first order."""
    model = tiny_model("gpt2")
    model.hf.double()
    chain = [RandomDictionary(hook, hook, model.d_model, N_FEATURES, seed=seed) for seed, hook in enumerate(RESID[:2])]
    nodes = FeatureNodes.of_pairs(model, sites_of(model, chain), made_pairs())
    sources = [Node(RESID[0], feature) for feature in range(N_FEATURES)] + [Node(RESID[0], None)]
    targets = [Node(RESID[1], feature) for feature in range(N_FEATURES)] + [Node(RESID[1], None)]
    found = edge_effects(nodes, LOGIT_DIFFERENCE, [*sources, *targets])
    own = {str(node): found.effect[:, index] for index, node in enumerate(found.sources)}
    first_order = attribution_patching(
        model,
        made_pairs(),
        [Component("feature", RESID[0], feature) for feature in range(N_FEATURES)],
        LOGIT_DIFFERENCE,
        direction="noising",
        dictionaries={RESID[0]: chain[0]},
    )
    span = (first_order.reference["corrupt"] - first_order.reference["clean"]) * len(nodes.prompts)
    for feature in range(N_FEATURES):
        edges = own[str(sources[feature])]
        # Nothing reaches the outcome but through the second hook.
        assert np.abs(edges[:, -1]).max() == 0
        assert edges.sum() / span == pytest.approx(first_order.effect[feature, 0], rel=1e-6, abs=1e-12)
    assert np.abs(own[str(targets[0])][:, :-1]).max() == 0


def test_a_transcoder_is_bypassed_by_the_stream() -> None:
    nodes = made_nodes()
    chosen = [Node(RESID[0], 2), Node("blocks.1.hook_mlp_out", 5), Node(RESID[1], None)]
    found = edge_effects(nodes, LOGIT_DIFFERENCE, chosen).effect
    assert np.abs(found[:, 0, 2]).max() > 0
    assert np.abs(found[:, 0, 3]).max() == 0


def test_random_circuits_have_as_many_nodes_at_each_hook() -> None:
    generator = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 40)
    drawable = generator.random(120) < 0.5
    ranking = Ranking.by_size(np.where(drawable, generator.standard_normal(120), 0), group, drawable)
    seen = set()
    for size in (1, 7, 30):
        wanted = np.bincount(group[ranking.first(size)], minlength=3)
        for _ in range(20):
            drawn = ranking.random(size, generator)
            assert np.bincount(group[drawn], minlength=3).tolist() == wanted.tolist()
            assert drawable[drawn].all()
            seen.add(tuple(np.flatnonzero(drawn)))
    assert len(seen) > 50


def test_a_curve_of_an_additive_behaviour_is_its_running_sum() -> None:
    weights = np.array([0.5, 0.3, -0.1, 0.2, 0.1])
    prompts = np.array([1.0, 2.0, 3.0])
    scale = Scale(prompts * weights.sum(), np.zeros(3), np.array([0, 1, 2]))
    ranking = Ranking.by_size(weights, np.zeros(5, dtype=int), np.ones(5, dtype=bool))
    curve = faithfulness_curve(lambda kept: prompts * weights[kept].sum(), ranking, scale, arm="toy", n_random=50)
    assert curve.sizes == (0, 1, 2, 4, 5) == curve_sizes(5)
    np.testing.assert_allclose(curve.faithfulness, [0, 0.5, 0.8, 0.9, 1.0], atol=1e-12)
    np.testing.assert_allclose(curve.rest, [1, 0.5, 0.2, 0.1, 0], atol=1e-12)
    through = faithfulness_curve(
        lambda kept: prompts * weights[kept].sum(), ranking, scale, arm="toy", random_sizes=(3, 9), n_random=2
    )
    assert through.sizes == (0, 1, 2, 3, 4, 5)
    assert np.isfinite(through.random).all(0).tolist() == [False, False, False, True, False, False]
    low, middle, high = through.random_spread(3) or (0.0, 0.0, 0.0)
    # Two draws: the median lies half way, and the interval reaches 95% of the way between them.
    assert middle == pytest.approx(through.random[:, 3].mean())
    assert high - low == pytest.approx(0.95 * np.ptp(through.random[:, 3]))
    assert through.random_spread(0) is None
    assert curve.beats_random()[1] == pytest.approx((curve.random[:, 1] < 0.5 - 1e-9).mean())
    with pytest.raises(ConfigError, match="expected 0 to 5"):
        faithfulness_curve(lambda kept: prompts, ranking, scale, arm="toy", sizes=(9,))


def test_a_data_set_without_pairs_is_ablated_to_means(tmp_path) -> None:
    model = tiny_model("gpt2")
    model.hf.double()
    sites = sites_of(model, dictionaries(model))
    prompts = made_pairs().clean
    nodes = FeatureNodes.of_prompts(model, sites, prompts, mean_baseline(model, sites, prompts))
    full = outcome_of(nodes, LOGIT_DIFFERENCE, nodes.all_kept(features=True), errors=True)
    with torch.no_grad():
        np.testing.assert_array_equal(full, LOGIT_DIFFERENCE(last_outputs(model, prompts), prompts).numpy())
    scores = score_nodes(nodes, LOGIT_DIFFERENCE, n_steps=2)
    found = feature_circuit(nodes, scores, LOGIT_DIFFERENCE, node_threshold=0.05, edge_threshold=0.01, n_verified=2)
    curves = feature_curves(nodes, scores, LOGIT_DIFFERENCE, sizes=(0, 4), n_random=2)
    found = found.with_curves(curves)
    found.save(tmp_path / "circuit.json")
    loaded = Circuit.load(tmp_path / "circuit.json")
    assert loaded.to_json() == found.to_json()
    assert isinstance(loaded.curves[0], FaithfulnessCurve)
    assert found.baseline == "mean over prompts"
    fewer = found.pruned(node_threshold=0.1, edge_threshold=0.02)
    names = {node.name for node in fewer.nodes}
    assert all(abs(node.effect) >= 0.1 for node in fewer.nodes)
    assert all(edge.source in names and edge.target in names | {OUTCOME} for edge in fewer.edges)
    assert "<table>" in found._repr_html_()
    with pytest.raises(ConfigError, match="find it again"):
        found.pruned(node_threshold=0.0, edge_threshold=0.0)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ArtifactError, match="is no circuit"):
        Circuit.load(tmp_path / "other.json")


def test_dictionaries_that_stand_nowhere_are_refused() -> None:
    model = tiny_model("gpt2")
    late = RandomDictionary("blocks.2.ln2.hook_out", "blocks.1.hook_mlp_out", model.d_model, 4)
    with pytest.raises(ConfigError, match="reads before it writes"):
        sites_of(model, [late])
    twice = RandomDictionary(RESID[0], RESID[0], model.d_model, 4)
    with pytest.raises(ConfigError, match="each of another"):
        sites_of(model, [twice, twice])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_circuit_of_all_components_is_the_model_and_of_none_the_corrupt_run(family: str) -> None:
    model, pairs = tiny_model(family), made_pairs()
    model.hf.double()
    parts = PartsKept(model, pairs, LOGIT_DIFFERENCE)
    with torch.no_grad():
        clean, corrupt = (
            LOGIT_DIFFERENCE(last_outputs(model, run), pairs.clean) for run in (pairs.clean, pairs.corrupt)
        )
    np.testing.assert_array_equal(parts.scale.full, clean.numpy())
    # Norms of some families compute in float32 whatever they are given.
    np.testing.assert_allclose(parts.scale.empty, corrupt.numpy(), rtol=0, atol=1e-6)
    found = component_circuit(model, pairs, LOGIT_DIFFERENCE, n_steps=2, node_threshold=0.0, edge_threshold=0.0)
    assert len(found.nodes) == 1 + model.n_layers * (model.sizes.n_heads + 1)
    # Ablating the embedding alone is patching it.
    embed = found.node("embed")
    kept = np.arange(len(parts.components)) > 0
    assert embed.ablation == pytest.approx((parts(kept) - clean.numpy()).sum() / (corrupt - clean).sum().item())
    curve = component_curve(model, pairs, pairs, LOGIT_DIFFERENCE, n_steps=2, n_random=2)
    assert curve.faithfulness[[0, -1]] == pytest.approx([0, 1], abs=1e-12)
