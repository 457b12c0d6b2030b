"""Figures of circuits show every node, every edge, every curve and no more; pages hold hostile tokens as text."""

import json

import numpy as np
import pytest

from dashboards.attribution_page import attribution_page
from dashboards.circuit_page import circuit_page, circuit_summary
from dashboards.circuit_view import ablation_figure, circuit_figure, columns, faithfulness_figure
from dashboards.show import show
from dashboards.theme import DARK, LIGHT
from interp.attribution_check import AttributionCheck
from interp.circuits import OUTCOME, Circuit, CircuitEdge, CircuitNode
from interp.errors import ArtifactError
from interp.faithfulness import FaithfulnessCurve

HOOKS = ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.1.hook_resid_post")


def made_circuit() -> Circuit:
    def node(hook: str, index: int | None, effect: float, ablation: float | None = None) -> CircuitNode:
        kind, layer = "error" if index is None else "feature", int(hook[7])
        name = f"{hook}/{'error' if index is None else index}"
        return CircuitNode(
            name, kind, hook, index, layer, effect, (effect, effect), ablation, None, ("</script>", " a")
        )

    nodes = (node(HOOKS[2], 3, 0.5, 0.4), node(HOOKS[0], 7, -0.2, -0.1), node(HOOKS[1], None, 0.1, 0.2))
    edges = (
        CircuitEdge(nodes[1].name, nodes[0].name, -0.2),
        CircuitEdge(nodes[1].name, nodes[2].name, 0.05),
        CircuitEdge(nodes[0].name, OUTCOME, 0.5),
    )
    random = np.full((4, 3), np.nan)
    random[:, 1] = [0.0, 0.1, 0.2, 0.7]
    interval = np.array([[0.0, 0.4, 1.0], [0.0, 0.6, 1.0]])
    curve = FaithfulnessCurve(
        "toy", (0, 1, 3), np.array([0.0, 0.5, 1.0]), interval, np.array([1.0, 0.5, 0.0]), random, 6
    )
    facts = {HOOKS[0]: {"run": "runs/a", "report": True}, HOOKS[2]: {"run": "runs/b", "report": False}}
    return Circuit(
        nodes, edges, "logit difference", "logits", "corrupt prompts", "toy", 6, 40, 0.01, 0.01,
        {"clean": 2.0, "empty": -2.0}, (curve,), {"model": {"name": "tiny"}, "dictionaries": facts},
    )  # fmt: skip


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_the_graph_runs_from_left_to_right(theme):
    circuit = made_circuit()
    assert [name for name, _ in columns(circuit)] == list(HOOKS)
    traces = circuit_figure(circuit, theme).data
    lines, markers = [t for t in traces if t.mode == "lines"], traces[-1]
    assert len(lines) == len(circuit.edges)
    # Every edge leads to the right, and its colour is that of its sign.
    assert all(line.x[0] < line.x[-1] for line in lines)
    assert [line.line.color for line in lines] == [theme.down, theme.up, theme.up]
    assert list(markers.marker.color) == [0.5, -0.2, 0.1]
    assert markers.marker.cmin == -markers.marker.cmax
    assert list(markers.marker.symbol) == ["circle", "circle", "square"]


def test_curves_show_the_band_of_random_circuits_where_it_was_measured():
    traces = {trace.name: trace for trace in faithfulness_figure(made_circuit().curves).data}
    assert list(traces["the circuit alone"].y) == [0.0, 0.5, 1.0]
    assert list(traces["all but the circuit"].y) == [1, 0.5, 0]
    assert list(traces["random, median"].x) == [1]
    assert list(traces["random, median"].y) == pytest.approx([0.15])
    assert traces["4 random circuits, 95%"].y[0] == pytest.approx(np.quantile([0.0, 0.1, 0.2, 0.7], 0.975))


def test_ablation_is_shown_of_nodes_that_were_ablated():
    points = ablation_figure(made_circuit()).data[-1]
    assert list(points.x) == [0.4, -0.1, 0.2]
    assert list(points.y) == [0.5, -0.2, 0.1]


def test_a_page_leads_to_reports_and_holds_tokens_as_text(tmp_path):
    circuit = made_circuit()
    summary = circuit_summary(circuit, title="t", at=tmp_path / "out")
    links = {node["name"]: node["link"] for column in summary["columns"] for node in column["nodes"]}
    assert links[f"{HOOKS[0]}/7"].endswith("runs/a/report.html#/features/7")
    assert links[f"{HOOKS[2]}/3"] is None
    assert summary["curves"] == [{"arm": "toy", "n_prompts": 6, "half": 1, "beats": [[1, 0.75]], "n_random": 4}]
    page = circuit_page(circuit)
    held = page.split('<script type="application/json" id="summary">')[1].split("</script>")[0]
    assert json.loads(held)["columns"][0]["nodes"][0]["tokens"] == ["</script>", " a"]


def made_check() -> AttributionCheck:
    return AttributionCheck(
        "head", "noising", "attribution patching", ("<b>", "c", "d"), (0.1, 0.2, 0.4), (0.1, 0.3, 0.5), 0.5, 2.0, 8
    )


def test_a_check_tells_how_near_attribution_is(tmp_path):
    check = made_check()
    assert check.correlation == pytest.approx(np.corrcoef([1, 2, 4], [1, 3, 5])[0, 1])
    assert check.mean_error == pytest.approx(0.2 / 0.9)
    assert check.speed == 4
    check.save(tmp_path / "check.json")
    assert AttributionCheck.load(tmp_path / "check.json") == check
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no check"):
        AttributionCheck.load(tmp_path / "other.json")
    assert "<td>3</td>" in check._repr_html_()
    assert "<b>" not in attribution_page([check]).split('id="summary">')[1].split("</script>")[0]


def test_notebooks_show_circuits_curves_and_checks():
    circuit = made_circuit()
    shown = [show(one) for one in (circuit, circuit.curves[0], made_check())]
    assert [len(figure.data) for figure in shown] == [len(circuit.edges) + 1, 5, 2]
