"""`interp codebook`: a model finetuned with discrete codes inside, and what its codes are about."""

from pathlib import Path
from typing import Any

import click

from interp.cli.codebook_run import open_codes, provenance_of, record_of, texts_of
from interp.cli.codebook_steer import command as steer
from interp.cli.evaluate import COUNT
from interp.cli.lazy import ToldGroup
from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, make_place, print_facts, print_grid
from interp.codebooks.config import CodebookConfig
from interp.codebooks.evaluation import LanguageScores
from interp.codebooks.files import load_codebook_model
from interp.codebooks.inspected import Inspection, detected_rows, inspect_run
from interp.codebooks.measured import told
from interp.codebooks.prompt_grid import PromptGrid, prompt_grid
from interp.codebooks.record import CodeRecord
from interp.codebooks.search import (
    FoundCode,
    matching_tokens,
    read_word_sets,
    search_codes,
    token_matches,
)
from interp.codebooks.training import train_codebooks
from interp.errors import ConfigError
from interp.prompts import encode_prompts
from interp.recording import progress_of_stages
from interp.storage import write_text

_EXAMPLES = """\b
Examples:
  interp codebook train configs/codebook_attn.yaml --out runs/codes
  interp codebook inspect runs/codes --pattern " (he|she)" --prompt "Lily went to the park."
  interp codebook search runs/codes "(dog|cat)"
  interp codebook steer runs/codes --codes 2.attn.1.731 "Once upon a time" --pattern dog
"""
_TRAIN_EXAMPLES = """\b
Examples:
  interp codebook train configs/codebook_attn.yaml
  interp codebook train configs/codebook_plain.yaml            the same finetune without codebooks
  interp codebook train --model gpt2 --dataset stories.jsonl --at attn,mlp --k 16 --n-codes 10000 --out runs/gpt2
  interp codebook train configs/codebook_attn.yaml --resume    after an interruption, bit for bit
"""
_INSPECT_EXAMPLES = """\b
Examples:
  interp codebook inspect runs/codes
  interp codebook inspect runs/codes --pattern "[Dd]og" --words animals.json --tokens 200k
  interp codebook inspect runs/codes --prompt "Lily went to the park." --json
  interp codebook inspect runs/codes --neurons runs/plain          rivals from the same finetune without codebooks
"""
_NEURONS = """Run of `interp codebook train --at ''` whose neurons are the rivals; unset: those of the base model."""
_SEARCH_EXAMPLES = """\b
Examples:
  interp codebook search runs/codes "(dog|cat)"
  interp codebook search runs/codes --token dog
  interp codebook search runs/codes --words animals.json --n 5
"""


@click.group("codebook", cls=ToldGroup, epilog=_EXAMPLES)
def command() -> None:
    """Finetune a model with discrete codes inside, find what codes are about, and steer by them.

    Codebooks are bottlenecks at attention heads, MLPs or the residual stream: at each token a few codes out of
    thousands stand for the whole activation.
    """


@command.command("train", cls=ConfigCommand, epilog=_TRAIN_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(CodebookConfig)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint if there is one.")
@json_option
def train(config_file: Path | None, resume: bool, as_json: bool, **flags: Any) -> None:
    """Put codebooks into a model and finetune both.

    Settings come from the YAML file CONFIG, then from flags. The base model is only read; the run folder holds the
    finetuned weights in Hugging Face layout and the codebooks beside them.
    """
    config = CodebookConfig.load(config_file, overrides_from(CodebookConfig, flags))
    folder = train_codebooks(config, resume=resume)
    scores = LanguageScores.load(folder.run.evaluation_path)
    facts = {
        "folder": str(folder.run.path),
        "model": str(folder.model),
        **_scored(scores),
    }
    print_facts("Codebooks" if config.at else "Plain finetune", facts, as_json=as_json)


def _scored(scores: LanguageScores) -> dict[str, Any]:
    """Scores by name; those on text that training read too are not called held out."""
    of = "heldout" if scores.split == "heldout" else "training_text" if scores.split == "all" else "text"
    return {
        f"{of}_loss_nats": scores.loss_nats,
        f"{of}_loss_interval": scores.loss_interval,
        f"{of}_accuracy": scores.accuracy,
        f"{of}_accuracy_interval": scores.accuracy_interval,
        f"{of}_tokens": scores.n_tokens,
    }


@command.command("inspect", epilog=_INSPECT_EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--tokens", default=100_000, show_default=True, type=COUNT, help="Tokens to look at.")
@click.option("--dataset", help="Text to look at, as in training; unset: the run's own held-out text.")
@click.option("--pattern", "patterns", multiple=True, help="Regular expression to score codes and neurons on; repeat.")
@click.option("--words", type=click.Path(path_type=Path), help="JSON file of {label: [words]} to score them on.")
@click.option("--neurons", type=click.Path(path_type=Path), help=_NEURONS)
@click.option("--prompt", help="Text whose codes the page shows as a grid; unset: the first text.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of what is drawn.")
@click.option("--out", type=click.Path(path_type=Path), help="Page to write; unset: report.html in the run.")
@json_option
def inspect(
    run: Path,
    tokens: int,
    dataset: str | None,
    patterns: tuple[str, ...],
    words: Path | None,
    neurons: Path | None,
    prompt: str | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Say what each code is about: one pass over text.

    How often codes are active, on which tokens and before which, in context; which follow each other, and which of
    neighbouring codebooks (one and the next, in the order of the model) go together; how well the best code tells a
    pattern or a set of words, beside the best neuron at the same recall; and for 30 codes drawn by seed whether what is
    shown tells where they are active elsewhere, beside 30 neurons. Neurons are those of the base model, or of a plain
    finetune (--neurons). Writes inspection.json, the record that `search` and `steer` ask, and a page.
    """
    held = open_codes(run)
    texts = texts_of(held)
    sets = None if words is None else read_word_sets(words)
    if prompt is not None:
        # Whatever is wrong is told before the pass, and before anything is written.
        encode_prompts(held.model, [prompt])
    page = make_place(out or held.folder.run.report_path, "--out")
    rivals = None if neurons is None else load_codebook_model(neurons)
    with progress_of_stages() as tell:
        result, record = inspect_run(
            held,
            texts,
            n_tokens=tokens,
            dataset=dataset,
            patterns=patterns,
            word_sets=sets,
            seed=seed,
            neurons=rivals,
            provenance=provenance_of(held, seed) | {"data": dataset or held.config.dataset},
            on_progress=tell,
        )
    grid = prompt_grid(held.model, held.codebooks, _first_text(record, texts) if prompt is None else prompt, record)
    text = _page(result, grid, record)
    record.save(held.folder.record_path)
    result.save(held.folder.inspection_path)
    write_text(page, text)
    if as_json:
        print_facts("", result.to_json() | {"prompt": grid.to_json()}, as_json=True)
    else:
        _print_inspection(result, page)


def _first_text(record: CodeRecord, texts: list[str]) -> str:
    return "".join(texts[token] for token in record.token_ids[record.row == record.row[0]][:24])


def _page(result: Inspection, grid: PromptGrid, record: CodeRecord) -> str:
    # Plotly is slow to import, and no other command of this file needs it.
    from dashboards.codebook_page import codebook_page

    return codebook_page(result, grid, record)


def _print_inspection(result: Inspection, page: Path) -> None:
    rows = [
        (book.name, f"{book.n_active:,} of {book.n_codes:,}", f"{book.entropy_bits:.2f}", f"{book.perplexity:.0f}")
        for book in result.books
    ]
    title = f"Codebooks on {result.n_tokens:,} tokens of {result.text}"
    print_grid(title, ("", "active codes", "entropy, bits", "perplexity"), rows)
    if result.detected:
        columns = ("", "code", "precision", "recall", "neuron", "precision at that recall", "tokens")
        print_grid("Best detector, chosen on even documents, judged on odd ones", columns, detected_rows(result))
    medians = [told(result.median_auc(found)) for found in (result.code_detection, result.neuron_detection)]
    shown = {
        "detection AUC, median": f"{medians[0]} of {len(result.code_detection)} codes, {medians[1]} of neurons",
        "neurons": f"of {result.neurons_of}",
        "page": page.resolve().as_uri(),
    }
    print_facts("", {}, as_json=False, shown=shown)


@command.command("search", epilog=_SEARCH_EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("pattern", required=False)
@click.option("--token", help="A token to look for, instead of a pattern.")
@click.option("--words", type=click.Path(path_type=Path), help="JSON file of {label: [words]}: look for each label.")
@click.option("--n", default=10, show_default=True, type=click.IntRange(min=1), help="Codes to show.")
@json_option
def search(run: Path, pattern: str | None, token: str | None, words: Path | None, n: int, as_json: bool) -> None:
    """Find codes that are active where a regular expression ends, on a token, or on a set of words.

    Asks the record that `interp codebook inspect` wrote. Codes are chosen on half of the documents; precision and
    recall are those of the other half.
    """
    if sum(given is not None for given in (pattern, token, words)) != 1:
        raise ConfigError("give one of PATTERN, --token and --words")
    held = open_codes(run)
    record, texts = record_of(held), texts_of(held)
    found: dict[str, tuple[FoundCode, ...]] = {}
    if words is not None:
        for label, members in read_word_sets(words).items():
            ids = {member.strip().lower() for member in members}
            wanted = [index for index, text in enumerate(texts) if text.strip().lower() in ids]
            found[label] = search_codes(record, _is_in(record, wanted), n=n)
    elif token is not None:
        found[token] = search_codes(record, token_matches(record, token, texts), n=n)
    else:
        found[str(pattern)] = search_codes(record, matching_tokens(record, str(pattern), texts), n=n)
    _print_found(found, as_json)


def _is_in(record: CodeRecord, token_ids: list[int]) -> Any:
    import numpy as np

    return np.isin(record.token_ids, token_ids)


def _print_found(found: dict[str, tuple[FoundCode, ...]], as_json: bool) -> None:
    names = FoundCode.__slots__
    if as_json:
        held = {label: [{name: getattr(x, name) for name in names} for x in some] for label, some in found.items()}
        print_facts("", {"found": held}, as_json=True)
        return
    for label, codes in found.items():
        rows = [
            (code.name, *(f"{x:.3f}" for x in (code.precision, code.recall, code.fit_precision)), f"{code.share:.4%}")
            for code in codes
        ]
        print_grid(f"Codes for {label!r}", ("", "precision", "recall", "where chosen", "active on"), rows)


command.add_command(steer)
