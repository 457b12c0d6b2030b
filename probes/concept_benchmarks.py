"""All concept benchmarks at once, for one dictionary or for several of the same config and other seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from interp.code import FeatureDictionary
from interp.datasets import TokenBatch
from interp.errors import ConfigError
from interp.models import Model
from probes.absorption import MEASURE as ABSORPTION
from probes.absorption import absorption
from probes.benchmark_rows import Pooled, Row, pool
from probes.concept_activations import ConceptActivations, FeatureActivations, encode_features, harvest_concept
from probes.concept_tasks import BinaryTask, main_tasks, tasks_of
from probes.concepts import ConceptSets
from probes.ravel import MEASURE as RAVEL
from probes.ravel import disentanglement
from probes.scr_tpp import SCR, TPP, scr, tpp
from probes.sparse_probing import MEASURE as SPARSE_PROBING
from probes.sparse_probing import is_represented, reference_probes, sparse_probing
from probes.targeted_erasure import MEASURE as ERASURE
from probes.targeted_erasure import targeted_erasure
from probes.text_cost import TextCosts

SCHEMA_VERSION = 1
MEASURES = (SPARSE_PROBING, ABSORPTION, SCR, TPP, RAVEL, ERASURE)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ConceptReport:
    """Figures of dictionaries of one config, one per seed, on one model and hook.

    `represented`: of each concept, whether the model itself holds it (a dense probe beats majority and tokens).
    """

    hooks: tuple[str, ...]
    n_dictionaries: int
    represented: dict[str, bool]
    rows: tuple[Pooled, ...]

    def of(self, measure: str) -> list[Pooled]:
        """The figures of one measure."""
        return [row for row in self.rows if row.measure == measure]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "hooks": list(self.hooks),
            "n_dictionaries": self.n_dictionaries,
            "represented": self.represented,
            "rows": [row.to_json() for row in self.rows],
        }


class ConceptBenchmark:
    """One model's activations on one collection of concepts, against which dictionaries are measured."""

    def __init__(
        self,
        model: Model,
        concepts: ConceptSets,
        hooks: tuple[str, ...],
        *,
        text: Sequence[TokenBatch] = (),
        seed: int = 0,
    ) -> None:
        """`text`: running text, neutral with respect to the concepts, on which erasure is charged."""
        self.model, self.concepts, self.hooks, self.seed = model, concepts, hooks, seed
        self.data = [harvest_concept(model, held, hooks) for held in concepts.examples]
        self.tasks = [task for held in self.data for task in tasks_of(held, seed=seed)]
        self.references = {_name(task): reference_probes(task, seed=seed) for task in self.tasks}
        self._text = TextCosts(model, text, hooks[0]) if text and len(hooks) == 1 and model.causal else None

    @property
    def represented(self) -> dict[str, bool]:
        """Of each concept, whether a dense probe beats the commoner answer and the tokens."""
        return {name: is_represented(rows) for name, rows in self.references.items()}

    def rows(self, dictionary: FeatureDictionary, measures: Sequence[str] = MEASURES) -> Iterator[list[Row]]:
        """Figures of one dictionary, measure by measure.

        Raises: ConfigError for an unknown measure, or a dictionary of other hooks.
        """
        if unknown := [name for name in measures if name not in MEASURES]:
            raise ConfigError(f"measures: got {unknown[0]!r}; expected some of {', '.join(MEASURES)}")
        if dictionary.hooks_in != self.hooks:
            raise ConfigError(
                f"got a dictionary at {', '.join(dictionary.hooks_in)}; expected {', '.join(self.hooks)}, where the "
                "activations were taken"
            )
        features = {held.name: encode_features(dictionary, held.acts.to(self.model.device)) for held in self.data}
        made: dict[str, Callable[[], list[Row]]] = {
            SPARSE_PROBING: lambda: self._sparse_probing(features),
            ABSORPTION: lambda: self._absorption(features),
            SCR: lambda: [row for held in self.data for row in self._scr(held, features[held.name])],
            TPP: lambda: self._tpp(features),
            RAVEL: lambda: self._ravel(dictionary),
            ERASURE: lambda: self._erasure(features),
        }
        for measure in measures:
            yield made[measure]()

    def _sparse_probing(self, features: dict[str, FeatureActivations]) -> list[Row]:
        rows = []
        for task in self.tasks:
            rows += self.references[_name(task)]
            rows += sparse_probing(task, features[task.data.name], seed=self.seed)
        return rows

    def _absorption(self, features: dict[str, FeatureActivations]) -> list[Row]:
        """Of concepts that the model holds: of others there is no direction to be absorbed."""
        held = [task for task in self.tasks if self.represented[_name(task)]]
        return [row for task in held for row in absorption(task, features[task.data.name], seed=self.seed)]

    def _scr(self, data: ConceptActivations, features: FeatureActivations) -> list[Row]:
        two = [attribute for attribute, classes in data.attributes.items() if len(classes) == 2]
        pairs = permutations(two, 2)
        return [row for target, spurious in pairs for row in scr(data, features, target, spurious, seed=self.seed)]

    def _tpp(self, features: dict[str, FeatureActivations]) -> list[Row]:
        rows = []
        for held in self.data:
            for attribute, classes in held.attributes.items():
                own = [task for task in self.tasks if (task.data, task.attribute) == (held, attribute)]
                if len(classes) > 2 and all(self.represented[_name(task)] for task in own):
                    rows += tpp(own, features[held.name], seed=self.seed)
        return rows

    def _ravel(self, dictionary: FeatureDictionary) -> list[Row]:
        rows = []
        for held in self.concepts.entities:
            for reading in ("behaviour", "probe") if self.model.causal and len(self.hooks) == 1 else ("probe",):
                rows += disentanglement(self.model, held, dictionary, reading=reading, seed=self.seed)
        return list({row.key: row for row in rows}.values())

    def _erasure(self, features: dict[str, FeatureActivations]) -> list[Row]:
        main = main_tasks([task for task in self.tasks if self.represented[_name(task)]])
        return [
            row
            for task in main
            for row in targeted_erasure(task, features, _others(task, main), text=self._text, seed=self.seed)
        ]


def _others(task: BinaryTask, tasks: Sequence[BinaryTask]) -> list[BinaryTask]:
    return [other for other in tasks if other is not task]


def _name(task: BinaryTask) -> str:
    return f"{task.data.name}: {task.name}"


def concept_report(
    benchmark: ConceptBenchmark,
    dictionaries: Sequence[FeatureDictionary],
    *,
    measures: Sequence[str] = MEASURES,
    on_progress: Progress | None = None,
) -> ConceptReport:
    """Measure every dictionary, and give mean and standard deviation over them.

    Raises: ConfigError if there is none, a measure is unknown, or hooks differ.
    """
    if not dictionaries:
        raise ConfigError("got no dictionary; give one, or several of the same config and other seeds")
    runs = []
    for index, dictionary in enumerate(dictionaries):
        rows: list[Row] = []
        for done, part in enumerate(benchmark.rows(dictionary, measures), start=1):
            rows += part
            if on_progress is not None:
                on_progress("concepts", index * len(measures) + done, len(dictionaries) * len(measures))
        runs.append(rows)
    return ConceptReport(benchmark.hooks, len(dictionaries), benchmark.represented, tuple(pool(runs)))
