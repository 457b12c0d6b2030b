"""Circuits: the nodes that cause an outcome, what they do to one another, and how much of it they carry alone."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from interp.errors import ArtifactError, ConfigError
from interp.faithfulness import FaithfulnessCurve
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
OUTCOME = "outcome"
KINDS = ("feature", "error", "embedding", "head", "mlp")


@dataclass(frozen=True, slots=True)
class CircuitNode:
    """One node: what it is, and the share of the outcome that ablating it takes away.

    effect: estimated, by attribution; ablation: measured, by ablating this node alone (None: not measured). Positive
    nodes speak for the outcome, negative ones against it. `tokens`: those of the prompts on which it is most active.
    """

    name: str
    kind: str
    hook: str
    index: int | None
    layer: int
    effect: float
    interval: tuple[float, float] | None = None
    ablation: float | None = None
    ablation_interval: tuple[float, float] | None = None
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CircuitEdge:
    """What ablating the source takes away by the way of the target (another node, or the outcome itself).

    Edges must not be summed over a whole graph: a path would be counted once for each of its edges.
    """

    source: str
    target: str
    effect: float


@dataclass(frozen=True, slots=True)
class Circuit:
    """Nodes and edges that pass the thresholds, of a set of prompts, with curves of held-out ones.

    Units: effects are shares of what ablating every node takes away; `reference` holds means of the outcome by name
    (clean: the model itself; empty: everything ablated). n_candidates: nodes that were scored.
    """

    nodes: tuple[CircuitNode, ...]
    edges: tuple[CircuitEdge, ...]
    outcome: str
    units: str
    baseline: str
    method: str
    n_prompts: int
    n_candidates: int
    node_threshold: float
    edge_threshold: float
    reference: Mapping[str, float]
    curves: tuple[FaithfulnessCurve, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def node(self, name: str) -> CircuitNode:
        """A node by its name.

        Raises: ConfigError if the circuit does not have it.
        """
        found = next((node for node in self.nodes if node.name == name), None)
        if found is None:
            raise ConfigError(f"got node {name!r}; the circuit has {len(self.nodes)} nodes; give one of their names")
        return found

    def with_curves(self, curves: Sequence[FaithfulnessCurve]) -> "Circuit":
        """The same with faithfulness measured."""
        return replace(self, curves=tuple(curves))

    def with_provenance(self, more: Mapping[str, Any]) -> "Circuit":
        """The same with more of its origin recorded."""
        return replace(self, provenance={**self.provenance, **more})

    def pruned(self, *, node_threshold: float, edge_threshold: float) -> "Circuit":
        """The same with higher thresholds.

        Raises: ConfigError for lower ones, below which nothing was kept.
        """
        if node_threshold < self.node_threshold or edge_threshold < self.edge_threshold:
            raise ConfigError(
                f"got thresholds {node_threshold:g} and {edge_threshold:g}; the circuit was kept at "
                f"{self.node_threshold:g} and {self.edge_threshold:g}; find it again for lower ones"
            )
        nodes = tuple(node for node in self.nodes if abs(node.effect) >= node_threshold)
        names = {node.name for node in nodes} | {OUTCOME}
        edges = tuple(
            e for e in self.edges if abs(e.effect) >= edge_threshold and e.source in names and e.target in names
        )
        return replace(self, nodes=nodes, edges=edges, node_threshold=node_threshold, edge_threshold=edge_threshold)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        held = {name: getattr(self, name) for name in _PLAIN}
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "circuit",
            **held,
            "reference": dict(self.reference),
            "provenance": dict(self.provenance),
            "nodes": [_plain_node(node) for node in self.nodes],
            "edges": [asdict(edge) for edge in self.edges],
            "curves": [curve.to_json() for curve in self.curves],
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "Circuit":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        held, where = read_json(path), str(path)
        if not isinstance(held, Mapping) or (held.get("kind"), held.get("schema_version")) != (
            "circuit",
            SCHEMA_VERSION,
        ):
            raise ArtifactError(f"{where}: is no circuit of version {SCHEMA_VERSION}; run the analysis again")
        try:
            return Circuit(
                nodes=tuple(_node(node) for node in held["nodes"]),
                edges=tuple(CircuitEdge(**edge) for edge in held["edges"]),
                curves=tuple(FaithfulnessCurve.from_json(curve, where) for curve in held["curves"]),
                **{name: held[name] for name in (*_PLAIN, "reference", "provenance")},
            )
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{where}: is damaged; run the analysis again") from None

    def _repr_html_(self) -> str:
        """The nodes as a table, strongest first."""
        rows = "".join(
            f"<tr><td>{html.escape(node.name)}</td><td>{html.escape(' '.join(node.tokens))}</td>"
            f"<td>{node.effect:+.3f}</td><td>{'' if node.ablation is None else f'{node.ablation:+.3f}'}</td></tr>"
            for node in sorted(self.nodes, key=lambda node: -abs(node.effect))
        )
        caption = f"{len(self.nodes)} nodes, {len(self.edges)} edges: {self.outcome}, {self.n_prompts} prompts"
        head = "<th>node</th><th>tokens</th><th>attribution</th><th>ablation</th>"
        return f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{rows}</table>"


_PLAIN = (
    "outcome", "units", "baseline", "method", "n_prompts", "n_candidates", "node_threshold", "edge_threshold",
)  # fmt: skip


def _plain_node(node: CircuitNode) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(node).items()}


def _node(held: Mapping[str, Any]) -> CircuitNode:
    values = dict(held)
    for name in ("interval", "ablation_interval"):
        values[name] = None if values[name] is None else tuple(values[name])
    return CircuitNode(**{**values, "tokens": tuple(values["tokens"])})
