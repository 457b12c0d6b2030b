"""The whole sweep: labelled texts and a model in, a report out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from interp.code import FeatureDictionary
from interp.models import Model
from probes import probe_results as results
from probes.erasure_report import iter_erasures
from probes.group_sparse import TaskExamples, iter_group_sparse
from probes.intervals import cluster_interval, mean_of
from probes.layer_sweep import (
    Measured,
    Question,
    SweepSettings,
    baselines,
    expand_hooks,
    iter_sweep,
    questions,
    sites_of,
)
from probes.probe_activations import Inputs, ProbeData, encode_places, harvest_places
from probes.probe_config import ProbeConfig
from probes.probe_labels import LabelledText, most_common_classes, sampled
from probes.probe_results import ErasureRow, ProbeReport, ProbeRow, ScoredText, Site
from probes.probe_tasks import overlap
from probes.probe_texts import direction_map, held_out_texts, scored_text

Tell = Callable[[str, int, int], None]
_Key = tuple[str, str, str]


def probe_report(
    model: Model,
    texts: Sequence[LabelledText],
    config: ProbeConfig,
    *,
    dictionaries: Mapping[str, FeatureDictionary] | None = None,
    about: Mapping[str, Any] | None = None,
    on_progress: Tell | None = None,
) -> ProbeReport:
    """Probe every attribute at every hook and dictionary, from one forward pass over the texts.

    Where one hook is looked at more closely (erasure, group-sparse probes, directions, scored texts), it is the one
    with the lowest loss on the training documents that were left out to choose by; held-out ones choose nothing.

    Raises: DataError if too little is labelled; UnknownHookError; ConfigError if a dictionary does not fit.
    """
    held = dictionaries or {}
    hooks = expand_hooks(model, (*config.hooks, *(hook for each in held.values() for hook in each.hooks_in)))
    texts = most_common_classes(texts, config.labels.classes)
    chosen = sampled(texts, examples=config.labels.examples, seed=config.seed)
    data = harvest_places(model, chosen, hooks, held_out_share=config.heldout_share, on_progress=on_progress)
    sweep = _Sweep.run(model, data, held, config, on_progress)
    found: dict[str, dict[str, Any]] = {question.task.attribute: {} for question in sweep.asked}
    for question in sweep.asked:
        found[question.task.attribute][question.task.split] = overlap(data, chosen, question.task)
    rows = [row for question in sweep.asked for row in baselines(data, question, sweep.settings)]
    rows += [row for one in sweep.measured.values() for row in one.rows]
    if config.group_sparse:
        rows += sweep.group_sparse()
    return ProbeReport(
        about={**(about or {}), "model": model.facts, "data": _facts(data, chosen)},
        sites=tuple(sweep.sites),
        splits=found,
        rows=tuple(rows),
        descriptions=tuple(row for one in sweep.measured.values() for row in one.descriptions),
        confusions=tuple(one.confusion for one in sweep.measured.values()),
        directions=(direction_map(data, [each.task for each in sweep.first_split()], sweep.best_hook()),),
        erasures=tuple(sweep.erasures(on_progress)) if config.erasure else (),
        texts=tuple(sweep.scored(model, texts, config)),
    )


def _facts(data: ProbeData, texts: Sequence[LabelledText]) -> dict[str, Any]:
    return {
        "n_texts": len(texts),
        "n_documents": len({text.document for text in texts}),
        "n_places": data.n,
        "n_texts_too_long": data.n_texts_too_long,
        "n_places_without_token": data.n_places_without_token,
        "split": "document hash; word hash",
    }


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What was measured, and what is looked at more closely because of it."""

    data: ProbeData
    settings: SweepSettings
    asked: list[Question]
    sites: list[Site]
    dictionaries: Mapping[str, FeatureDictionary]
    measured: Mapping[_Key, Measured]

    @staticmethod
    def run(
        model: Model,
        data: ProbeData,
        dictionaries: Mapping[str, FeatureDictionary],
        config: ProbeConfig,
        on_progress: Tell | None,
    ) -> "_Sweep":
        named = {name: getattr(config, name) for name in ("splits", "cs", "ks", "nonlinear", "description_length")}
        settings = SweepSettings(**named, seed=config.seed)
        order = {name: index for index, name in enumerate(config.labels.attributes)}
        asked = sorted(questions(data, settings), key=lambda question: order.get(question.task.attribute, len(order)))
        sites = sites_of(model, data, dictionaries)
        measured: dict[_Key, Measured] = {
            (question.task.attribute, question.task.split, site.name): one
            for site, question, one in iter_sweep(data, asked, sites, dictionaries, settings, on_progress=on_progress)
        }
        return _Sweep(data, settings, asked, sites, dictionaries, measured)

    def first_split(self) -> list[Question]:
        """Each attribute once, under the first split that it was asked under."""
        return list({question.task.attribute: question for question in reversed(self.asked)}.values())[::-1]

    def _loss(self, question: Question, site: Site) -> float:
        return min(self.measured[question.task.attribute, question.task.split, site.name].fit.validation_nats)

    def best_hook(self, *asked: Question) -> str:
        """The hook of lowest mean validation loss over these questions; all attributes by default."""
        hooks = [site for site in self.sites if not site.is_dictionary]
        over = asked or tuple(self.first_split())
        return min(hooks, key=lambda site: fmean(self._loss(question, site) for question in over)).name

    def erasures(self, on_progress: Tell | None) -> Iterator[ErasureRow]:
        """Each attribute at its own best hook."""
        asked = self.first_split()
        for done, question in enumerate(asked, 1):
            site = self.best_hook(question)
            x = self.data.acts[site].numpy()
            yield from iter_erasures(
                x, self.data, question.task, question.inner, site=site, cs=self.settings.cs, seed=self.settings.seed
            )
            if on_progress:
                on_progress("erasure", done, len(asked))

    def group_sparse(self) -> Iterator[ProbeRow]:
        """All attributes at once, at the best hook and on each dictionary."""
        best = self.best_hook()
        yield from self._group_sparse_rows(best, self.data.acts[best].numpy())
        for name, dictionary in self.dictionaries.items():
            yield from self._group_sparse_rows(name, encode_places(dictionary, self.data).matrix)

    def _group_sparse_rows(self, site: str, x: Inputs) -> Iterator[ProbeRow]:
        asked = {question.task.attribute: question for question in self.first_split()}
        tasks = {
            name: TaskExamples(x[one.task.train], one.task.y[one.task.train], len(one.task.classes))
            for name, one in asked.items()
        }
        for fit in iter_group_sparse(tasks):
            for name, question in asked.items():
                test = question.task.test
                right = fit.probes[name].right(x[test], question.task.y[test])
                score = cluster_interval(mean_of(right), question.clusters(self.data), seed=self.settings.seed)
                n_used, split = len(fit.used[name]), question.task.split
                yield ProbeRow(name, split, site, results.GROUP_SPARSE, score, n_inputs=n_used, c=fit.share)

    def scored(self, model: Model, texts: Sequence[LabelledText], config: ProbeConfig) -> Iterator[ScoredText]:
        """Held-out texts under the probe of each attribute at its best hook."""
        drawn = held_out_texts(model, texts, share=config.heldout_share, n=config.shown_texts, seed=self.settings.seed)
        for question in self.first_split():
            task, site = question.task, self.best_hook(question)
            probe = self.measured[task.attribute, task.split, site].fit.probe
            for text in drawn:
                yield scored_text(model, text, probe, task, site)
