"""Codes put in while a model writes: how often it then writes what was wanted, and at what cost.

Axes: b rows (texts), t position, g groups, k active codes, v vocabulary, c controls.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.codebooks.divergence import jensen_shannon
from interp.codebooks.insertion import Choose, Codebooks, Insertion
from interp.codebooks.names import CodeName
from interp.codebooks.record import CodeRecord
from interp.errors import ArtifactError, ConfigError, DataError
from interp.models import Model
from interp.prompts import encode_prompts
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
Where = Literal["all", "prompt", "generated", "last"]
"""Tokens at which codes are put in: every one, those of the prompt, those behind it, or the prompt's last one."""
NEAREST = 20
Progress = Callable[[int, int], None]


class Activation:
    """Edits that put codes in at chosen tokens, for `Insertion(choose=…)`; one for each text that is written.

    A code that is not active already takes the place of the least similar one, so that k stay active.
    """

    def __init__(self, codes: Sequence[CodeName], codebooks: Codebooks, where: Where | Sequence[int], n_prompt: int):
        """Raises: ConfigError for more codes of one codebook than are active at once."""
        self._where, self._n_prompt = where, n_prompt
        self._by_hook: dict[str, dict[int, list[int]]] = {}
        for name in dict.fromkeys(codes):
            self._by_hook.setdefault(name.hook, {}).setdefault(name.group, []).append(name.code)
        for hook, groups in self._by_hook.items():
            for wanted in groups.values():
                if len(wanted) > codebooks[hook].k:
                    raise ConfigError(
                        f"got {len(wanted)} codes of one codebook at {hook}, of which {codebooks[hook].k} are active "
                        "at once; give fewer"
                    )
        self._seen = dict.fromkeys(self._by_hook, 0)

    def edits(self) -> dict[str, Choose]:
        """By hook."""
        return {hook: self._edit(hook) for hook in self._by_hook}

    def _edit(self, hook: str) -> Choose:
        def choose(ids: Int[Tensor, "b t g k"]) -> Int[Tensor, "b t g k"]:
            first = self._seen[hook]
            self._seen[hook] += ids.shape[1]
            here = self._places(torch.arange(first, first + ids.shape[1])).to(ids.device)
            changed = ids.clone()
            for group, wanted in self._by_hook[hook].items():
                put = _put_in(ids[:, :, group], torch.tensor(wanted, device=ids.device))
                changed[:, :, group] = torch.where(here[:, None], put, ids[:, :, group])
            return changed

        return choose

    def _places(self, positions: Int[Tensor, " t"]) -> Tensor:
        n = self._n_prompt
        if not isinstance(self._where, str):
            return torch.isin(positions, torch.tensor(list(self._where)))
        if self._where == "all":
            return torch.ones_like(positions, dtype=torch.bool)
        if self._where == "last":
            return positions == n - 1
        return positions < n if self._where == "prompt" else positions >= n


def _put_in(ids: Int[Tensor, "b t k"], wanted: Int[Tensor, " m"]) -> Int[Tensor, "b t k"]:
    """The wanted codes first, then the others in their order, as many as fit."""
    k = ids.shape[-1]
    own = torch.isin(ids, wanted)
    # Those to keep come first, most similar first; a wanted one must not stand twice.
    order = own.to(torch.int8).argsort(dim=-1, stable=True)
    kept = ids.gather(-1, order)[..., : k - len(wanted)]
    return torch.cat([wanted.expand(*ids.shape[:-1], -1), kept], dim=-1)


@dataclass(frozen=True, slots=True)
class SteeredOutcome:
    """What one set of codes did. success: share of texts that match; perplexity of the texts behind the prompt, by the
    same model without steering; jsd: of the next-token distributions over neutral texts, in nats."""

    success: float
    perplexity: float
    jsd: float


@dataclass(frozen=True, slots=True)
class CodeSteering:
    """Steering by codes, beside random codes of the same codebooks that are about as frequent."""

    codes: tuple[str, ...]
    pattern: str
    where: str
    prompt: str
    n_texts: int
    unsteered: SteeredOutcome
    steered: SteeredOutcome
    controls: tuple[SteeredOutcome, ...]
    texts: tuple[str, ...] = ()
    unsteered_texts: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def p(self) -> float:
        """Share of controls with at least as many successes, the codes themselves counted in."""
        return (1 + sum(one.success >= self.steered.success for one in self.controls)) / (1 + len(self.controls))

    @property
    def relative_shift(self) -> float:
        """JSD from the unsteered model, relative to the mean of the controls."""
        mean = np.mean([one.jsd for one in self.controls]) if self.controls else float("nan")
        return float(self.steered.jsd / mean) if mean else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema_version": SCHEMA_VERSION, "kind": "code_steering", "p": self.p, **asdict(self)}

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "CodeSteering":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another kind.
        """
        held = read_json(path)
        if not isinstance(held, dict) or held.get("kind") != "code_steering":
            raise ArtifactError(f"{path}: holds no steering by codes; steer again")
        try:
            values = {name: held[name] for name in CodeSteering.__slots__}
            for name in ("unsteered", "steered"):
                values[name] = SteeredOutcome(**values[name])
            values["controls"] = tuple(SteeredOutcome(**one) for one in values["controls"])
            for name in ("codes", "texts", "unsteered_texts"):
                values[name] = tuple(values[name])
            return CodeSteering(**values)
        except (KeyError, TypeError):
            raise ArtifactError(f"{path}: is damaged; steer again") from None

    def rows(self) -> list[tuple[str, ...]]:
        """Cells: success, perplexity and shift, without and with the codes and with the middle 95% of the controls."""
        found = [("unsteered", *_cells(self.unsteered)), (", ".join(self.codes), *_cells(self.steered))]
        if self.controls:
            values = np.array([[one.success, one.perplexity, one.jsd] for one in self.controls])
            low, middle, high = np.quantile(values, (0.025, 0.5, 0.975), axis=0)
            cells = [f"{m:.3g} ({a:.3g} to {b:.3g})" for a, m, b in zip(low, middle, high, strict=True)]
            found.append((f"{len(self.controls)} random codes, median (95%)", *cells))
        return found

    def _repr_html_(self) -> str:
        """The table."""
        rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in self.rows())
        heads = "".join(f"<th>{name}</th>" for name in COLUMNS)
        return f"<table><caption>success p {self.p:.3f}</caption><tr>{heads}</tr>{rows}</table>"


COLUMNS = ("", "success", "perplexity", "shift (JSD, nats)")


def _cells(outcome: SteeredOutcome) -> tuple[str, ...]:
    return f"{outcome.success:.3f}", f"{outcome.perplexity:.2f}", f"{outcome.jsd:.4f}"


def steer_codes(
    model: Model,
    codebooks: Codebooks,
    record: CodeRecord,
    codes: Sequence[CodeName],
    prompt: str,
    pattern: str,
    *,
    neutral: Sequence[str],
    where: Where | Sequence[int] = "all",
    n_texts: int = 50,
    new_tokens: int = 30,
    n_controls: int = 100,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> CodeSteering:
    """Write texts with the codes active, without, and with random ones; sampled at temperature 1, seeds shared.

    Raises: ConfigError for a bad pattern or no code; DataError for a prompt that fills the context.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"got pattern {pattern!r}: {error}; give a regular expression of Python") from None
    if not codes:
        raise ConfigError("got no codes; give --codes, such as 2.attn.5.731 (`interp codebook search` finds some)")
    scene = _Writing(model, codebooks, prompt, wanted, tuple(neutral), where, n_texts, new_tokens, seed)
    unsteered, before = scene.outcome(())
    steered, after = scene.outcome(codes)
    generator, controls = np.random.default_rng(seed), []
    for index in range(n_controls):
        controls.append(scene.outcome(random_like(record, codes, generator))[0])
        if on_progress is not None:
            on_progress(index + 1, n_controls)
    told = where if isinstance(where, str) else ",".join(map(str, where))
    names = tuple(map(str, codes))
    return CodeSteering(
        names, pattern, told, prompt, n_texts, unsteered, steered, tuple(controls), tuple(after[:8]),
        tuple(before[:8]), dict(provenance or {}),
    )  # fmt: skip


def random_like(record: CodeRecord, codes: Sequence[CodeName], generator: np.random.Generator) -> list[CodeName]:
    """For each code another one of its codebook, drawn among those nearest to it in frequency; all differ."""
    drawn: list[CodeName] = []
    for name in codes:
        book = record.book(name.hook, name.group)
        counts = book.counts().astype(np.float64)
        taken = [other.code for other in (*codes, *drawn) if (other.hook, other.group) == (name.hook, name.group)]
        distance = np.abs(np.log1p(counts) - np.log1p(counts[name.code]))
        distance[taken] = np.inf
        near = np.argsort(distance, kind="stable")[:NEAREST]
        near = near[np.isfinite(distance[near])]
        if not len(near):
            raise ConfigError(f"got {len(taken)} codes of a codebook of {len(counts)}; none is left to compare with")
        drawn.append(book.code(int(generator.choice(near))))
    return drawn


@dataclass(frozen=True, slots=True)
class _Writing:
    """How texts are written and judged."""

    model: Model
    codebooks: Codebooks
    prompt: str
    wanted: re.Pattern[str]
    neutral: tuple[str, ...]
    where: Where | Sequence[int]
    n_texts: int
    new_tokens: int
    seed: int

    @torch.no_grad()
    def outcome(self, codes: Sequence[CodeName]) -> tuple[SteeredOutcome, list[str]]:
        prompt = encode_prompts(self.model, [self.prompt]).token_ids.to(self.model.device)
        n_prompt = prompt.shape[1]
        room = min(self.new_tokens, self.model.context_size - n_prompt)
        if room < 1:
            raise DataError(f"got a prompt of {n_prompt} tokens, which fills the context; shorten it")
        edits = Activation(codes, self.codebooks, self.where, n_prompt).edits()
        with Insertion(self.model, self.codebooks, choose=edits):
            rows = _sample(self.model, prompt.expand(self.n_texts, -1), room, self.seed)
        texts = self.model.tokenizer.batch_decode(rows[:, n_prompt:], skip_special_tokens=True)
        success = float(np.mean([bool(self.wanted.search(text)) for text in texts]))
        return SteeredOutcome(success, self._perplexity(rows, n_prompt), self._shift(codes)), texts

    def _perplexity(self, rows: Int[Tensor, "b t"], n_prompt: int) -> float:
        logits = _logits(self.model, self.codebooks, rows)[:, n_prompt - 1 : -1]
        targets = rows[:, n_prompt:]
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return float(nats.exp())

    def _shift(self, codes: Sequence[CodeName]) -> float:
        """Mean over neutral texts' tokens of the divergence that the codes make, active at every token."""
        if not codes or not self.neutral:
            return 0.0
        prompts = encode_prompts(self.model, self.neutral)
        ids = prompts.token_ids.to(self.model.device)
        edits = Activation(codes, self.codebooks, "all", ids.shape[1]).edits()
        with_codes = _logits(self.model, self.codebooks, ids, edits).softmax(2)
        divergence = jensen_shannon(with_codes, _logits(self.model, self.codebooks, ids).softmax(2))
        return float(divergence[prompts.real.to(ids.device)].mean())


def _logits(
    model: Model, codebooks: Codebooks, ids: Int[Tensor, "b t"], choose: Mapping[str, Choose] | None = None
) -> Float[Tensor, "b t v"]:
    forward: Any = model.hf
    with Insertion(model, codebooks, choose=choose):
        logits: Tensor = forward(ids, use_cache=False).logits
    return logits.float()


def _sample(model: Model, prompt: Int[Tensor, "b t"], n_new: int, seed: int) -> Int[Tensor, "b t2"]:
    """Prompts gone on with by draws at temperature 1; the end of a text is drawn on like any token."""
    generator = torch.Generator(model.device).manual_seed(seed)
    cache, ids, rows = DynamicCache(config=model.hf.config), prompt, prompt
    forward: Any = model.hf
    for _ in range(n_new):
        logits = forward(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        ids = torch.multinomial(logits.softmax(1), 1, generator=generator)
        rows = torch.cat([rows, ids], dim=1)
    return rows
