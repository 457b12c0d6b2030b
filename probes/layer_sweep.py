"""Probes at every layer, from one forward pass: raw hooks and the features of dictionaries alike.

Axes: n places of the data, m held-out examples, d width, c classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from interp.code import FeatureDictionary
from interp.errors import ConfigError, DataError
from interp.hook_names import unknown_hook
from interp.models import Model
from probes import probe_results as results
from probes.controls import majority_right, selectivity, task_control, token_right
from probes.description_length import online_code
from probes.intervals import cluster_interval, mean_of
from probes.linear import PathFit, fit_logistic_path
from probes.mean_difference import fit_in_distribution, fit_mean_difference
from probes.nonlinear import fit_nonlinear
from probes.probe_activations import FeatureInputs, Inputs, ProbeData, encode_places
from probes.probe_results import Confusion, DescriptionRow, ProbeRow, Site
from probes.probe_tasks import Inner, ProbeTask, Split, inner_split, task_of
from probes.sparse import KS, fit_sparse

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What is fitted, and how. cs: regularisation path; ks: numbers of features of k-sparse probes."""

    splits: tuple[Split, ...] = ("document", "word")
    cs: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ks: tuple[int, ...] = KS
    nonlinear: bool = True
    description_length: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """A task with the split inside it that strengths of regularisation are chosen by."""

    task: ProbeTask
    inner: Inner

    def clusters(self, data: ProbeData) -> ndarray:
        """Documents of the held-out examples."""
        return np.asarray(data.document[self.task.test])


@dataclass(frozen=True, slots=True)
class Measured:
    """What one question found at one site. `fit` is the logistic probe."""

    rows: tuple[ProbeRow, ...]
    descriptions: tuple[DescriptionRow, ...]
    confusion: Confusion
    fit: PathFit


def expand_hooks(model: Model, names: Sequence[str]) -> tuple[str, ...]:
    """Whole names as they are, others (hook_resid_post, attn.hook_z) at every layer.

    Raises: UnknownHookError with the closest names.
    """
    found: list[str] = []
    for name in names:
        layers = [f"blocks.{layer}.{name}" for layer in range(model.n_layers)]
        each = [name] if name in model.hooks else [hook for hook in layers if hook in model.hooks]
        if not each:
            raise unknown_hook(name, model.hooks, model.name, model.n_layers)
        found += each
    return tuple(dict.fromkeys(found))


def questions(data: ProbeData, settings: SweepSettings) -> list[Question]:
    """Every attribute under every split that leaves at least two classes with enough examples.

    Raises: DataError if there is none.
    """
    tasks = [task_of(data, attribute, split) for attribute in data.classes for split in settings.splits]
    found = [Question(task, inner_split(data, task, seed=settings.seed)) for task in tasks if task is not None]
    if not found:
        raise DataError(
            f"got {data.n} labelled places; no attribute has two classes with enough examples on both sides of a "
            "split; give more text, or fewer classes"
        )
    return found


def sites_of(model: Model, data: ProbeData, dictionaries: Mapping[str, FeatureDictionary]) -> list[Site]:
    """Hooks in the order in which they were captured, then dictionaries.

    Raises: ConfigError if a dictionary reads a hook that was not captured.
    """
    for name, dictionary in dictionaries.items():
        if missing := [hook for hook in dictionary.hooks_in if hook not in data.acts]:
            raise ConfigError(f"{name}: reads {missing[0]}, which was not captured; add it to the hooks")
    hooks = [Site(hook, model.hook(hook).layer) for hook in data.acts]
    return hooks + [
        Site(name, model.hook(dictionary.hooks_in[-1]).layer, is_dictionary=True)
        for name, dictionary in dictionaries.items()
    ]


def iter_sweep(
    data: ProbeData,
    asked: Sequence[Question],
    sites: Sequence[Site],
    dictionaries: Mapping[str, FeatureDictionary],
    settings: SweepSettings,
    *,
    on_progress: Tell | None = None,
) -> Iterator[tuple[Site, Question, Measured]]:
    """Every question at every site."""
    n, done = len(sites) * len(asked), 0
    for site in sites:
        features = encode_places(dictionaries[site.name], data) if site.is_dictionary else None
        x: Inputs = data.acts[site.name].numpy() if features is None else features.matrix
        for question in asked:
            yield site, question, measure(x, features, data, question, site, settings)
            done += 1
            if on_progress:
                on_progress("probes", done, n)


def baselines(data: ProbeData, question: Question, settings: SweepSettings) -> list[ProbeRow]:
    """What needs no activations: the commonest class, and the tokens."""
    right = {
        results.MAJORITY: majority_right(question.task),
        results.BAG_OF_TOKENS: token_right(data, question.task, question.inner),
    }
    return [_row(data, question, "", probe, each, settings) for probe, each in right.items()]


def measure(
    x: Inputs,
    features: FeatureInputs | None,
    data: ProbeData,
    question: Question,
    site: Site,
    settings: SweepSettings,
) -> Measured:
    """All probes of one question at one site.

    Under the split by word there is no control task, nor a description length: nobody can know a new word's draw.
    """
    task, inner = question.task, question.inner
    train, answers, n_classes = x[task.train], task.y[task.train], len(task.classes)
    test, truth = x[task.test], task.y[task.test]
    fit = fit_logistic_path(train, answers, inner, n_classes=n_classes, cs=settings.cs)
    right = fit.probe.right(test, truth)
    rows = [_row(data, question, site.name, results.LOGISTIC, right, settings, c=fit.c)]
    if features is None:
        for probe, fitting in (
            (results.MEAN_DIFFERENCE, fit_mean_difference),
            (results.IN_DISTRIBUTION, fit_in_distribution),
        ):
            each = fitting(train, answers, n_classes=n_classes).right(test, truth)
            rows.append(_row(data, question, site.name, probe, each, settings))
    else:
        rows += _sparse_rows(features, data, question, site, settings)
    if settings.nonlinear:
        network = fit_nonlinear(train, answers, inner, n_classes=n_classes, seed=settings.seed)
        rows.append(_row(data, question, site.name, results.NONLINEAR, network.right(test, truth), settings))
    described: list[DescriptionRow] = []
    if task.split == "document":
        rows += _control_rows(x, data, question, site, right, settings)
        if settings.description_length:
            described = list(_descriptions(x, data, question, site, settings))
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (truth, fit.probe.predict(test)), 1)
    confusion = Confusion(task.attribute, task.split, site.name, task.classes, tuple(map(tuple, counts.tolist())))
    return Measured(tuple(rows), tuple(described), confusion, fit)


def _control_rows(
    x: Inputs,
    data: ProbeData,
    question: Question,
    site: Site,
    right: Float[ndarray, " m"],
    settings: SweepSettings,
) -> list[ProbeRow]:
    task, clusters = question.task, question.clusters(data)
    y = task_control(data, task, seed=settings.seed)
    fit = fit_logistic_path(x[task.train], y[task.train], question.inner, n_classes=len(task.classes), cs=settings.cs)
    found = selectivity(right, fit.probe.right(x[task.test], y[task.test]), clusters, seed=settings.seed)
    key = (task.attribute, task.split, site.name)
    return [
        ProbeRow(*key, results.CONTROL, found.control, c=fit.c),
        ProbeRow(*key, results.SELECTIVITY, found.selectivity),
    ]


def _descriptions(
    x: Inputs, data: ProbeData, question: Question, site: Site, settings: SweepSettings
) -> Iterator[DescriptionRow]:
    """The code of the training side's labels, and of the same words' control labels."""
    task = question.task
    for name, y in ((results.LABELS, task.y), (results.CONTROL, task_control(data, task, seed=settings.seed))):
        length = online_code(
            x[task.train],
            y[task.train],
            data.document[task.train],
            n_classes=len(task.classes),
            cs=settings.cs,
            seed=settings.seed,
        )
        yield DescriptionRow(task.attribute, site.name, name, length)


def _sparse_rows(
    features: FeatureInputs, data: ProbeData, question: Question, site: Site, settings: SweepSettings
) -> Iterator[ProbeRow]:
    task = question.task
    for fit in fit_sparse(features, task, question.inner, ks=settings.ks, cs=settings.cs, seed=settings.seed):
        yield _row(data, question, site.name, results.K_SPARSE, fit.right, settings, n_inputs=fit.k)
        yield _row(data, question, site.name, results.RANDOM_FEATURES, fit.random_right, settings, n_inputs=fit.k)


def _row(
    data: ProbeData,
    question: Question,
    site: str,
    probe: str,
    right: Float[ndarray, " m"],
    settings: SweepSettings,
    *,
    n_inputs: int | None = None,
    c: float | None = None,
) -> ProbeRow:
    score = cluster_interval(mean_of(right), question.clusters(data), seed=settings.seed)
    return ProbeRow(question.task.attribute, question.task.split, site, probe, score, n_inputs, c)
