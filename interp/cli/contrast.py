"""`interp contrast`."""

from pathlib import Path
from typing import Any

import click

from dashboards.contrast_view import contrast_page
from interp.cli.evaluate import SEED
from interp.cli.output import json_option, print_facts, print_grid, print_page, shown_token
from interp.errors import ConfigError
from interp.recording import progress_of_stages
from interp.storage import make_folder, write_text
from interp.studies.contrast_runs import Source, neuron_source, run_contrast, sae_source
from probes.contrast import LEVEL, Contrast, row_cells
from probes.permutation import MOST_DRAWS

_EXAMPLES = """\b
Examples:
  interp contrast dogs.txt cats.txt --run runs/quickstart                       features of an SAE
  interp contrast dogs.txt cats.txt --model embedded --hook blocks.2.hook_resid_post   neurons
  interp contrast polite.jsonl rude.jsonl --run runs/chat --text-field messages --roles assistant
  interp contrast a.txt b.txt --run runs/quickstart --by max --page contrast.html --out contrast.json
"""


@click.command("contrast", epilog=_EXAMPLES)
@click.argument("text_a", metavar="A")
@click.argument("text_b", metavar="B")
@click.option("--run", "run_source", metavar="SAE", help="Run folder, or an SAE of any known format: its features.")
@click.option("--model", "model_name", help="Model whose neurons to contrast; with --run, where its model has moved.")
@click.option("--hook", help="Where its neurons are: a name such as blocks.2.hook_resid_post (without --run).")
@click.option(
    "--by",
    type=click.Choice(["mean", "max"]),
    default="mean",
    show_default=True,
    help="What of a feature is tested in each document: its mean over tokens, or its strongest token.",
)
@click.option(
    "--unit",
    type=click.Choice(["line", "paragraph", "file"]),
    default="line",
    show_default=True,
    help="What one document is in plain text.",
)
@click.option("--text-field", default="text", show_default=True, help="Field that holds the text (jsonl, parquet).")
@click.option("--roles", metavar="NAME,…", help="Of conversations keep what these speakers say, such as assistant.")
@click.option(
    "--least-documents",
    default=3,
    show_default=True,
    type=click.IntRange(min=1),
    help="Documents in which a feature must fire to be tested.",
)
@click.option(
    "--draws",
    default=MOST_DRAWS,
    show_default=True,
    type=click.IntRange(min=100),
    help="Most permutations for a feature; those that are plainly chance get few.",
)
@click.option("--top", default=20, show_default=True, type=click.IntRange(min=1), help="Features to show.")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of permutations and intervals.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@click.option("--page", type=click.Path(path_type=Path), help="HTML file to write, with the strongest tokens.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write everything to, as JSON.")
@json_option
def command(
    text_a: str,
    text_b: str,
    run_source: str | None,
    model_name: str | None,
    hook: str | None,
    roles: str | None,
    device: str,
    page: Path | None,
    out: Path | None,
    as_json: bool,
    top: int,
    **options: Any,
) -> None:
    """Which features, or neurons, separate two sets of texts A and B.

    A and B are text files with a document per line, folders, or whatever `interp encode` reads. Documents are dealt
    out anew between the sets to see what chance does (exact p for each feature), and false discoveries are held to 5%
    of what is found (Benjamini-Hochberg). Effect sizes are over documents: Cohen's d, and AUC, the chance that a
    document of A has more of it than one of B, with a 95% interval.
    """
    for path in (page, out):
        if path is not None:
            make_folder(path.parent)
    names = tuple(part.strip() for part in roles.split(",") if part.strip()) if roles else ()
    source = _source(run_source, model_name, hook, device)
    with progress_of_stages() as tell:
        found = run_contrast(source, (text_a, text_b), roles=names, top=top, progress=tell, **options)
    if out is not None:
        found.save(out)
    if page is not None:
        write_text(page, contrast_page(found))
    if as_json:
        print_facts("", found.to_json(), as_json=True)
        return
    _print(found, top)
    if page is not None:
        print_page(page)


def _source(run: str | None, model_name: str | None, hook: str | None, device: str) -> Source:
    if run is not None:
        if hook is not None:
            raise ConfigError("got --run and --hook; an SAE has its own hook: leave --hook out, or --run for neurons")
        return sae_source(run, model_name=model_name, device=device)
    if hook is None:
        raise ConfigError("got neither --run nor --hook; give a run for its features, or a hook for its neurons")
    return neuron_source(model_name or "embedded", hook, device=device)


def _print(found: Contrast, top: int) -> None:
    (n_a, n_b), (t_a, t_b) = found.n_documents, found.n_tokens
    title = (
        f"A: {found.names[0]}, {n_a:,} documents, {t_a / n_a:.1f} tokens each. "
        f"B: {found.names[1]}, {n_b:,} documents, {t_b / n_b:.1f} tokens each.\n"
        f"{found.n_discoveries:,} of {len(found.rows):,} features separate them at a false-discovery rate of "
        f"{LEVEL:.0%} (by {found.by}; {found.n_features:,} features in all)"
    )
    columns = ("feature", "d", "AUC (95%)", "fires in A", "fires in B", "p", "q", "strongest token")
    rows = [(*row_cells(row, found.by), _strongest(found, row.feature)) for row in found.rows[:top]]
    print_grid(title, columns, rows)
    if found.is_too_small:
        print(f"So few documents can give no p under {found.least_p:.2g}: no single feature could have been found.")


def _strongest(found: Contrast, feature: int) -> str:
    """The strongest token of either set, marked, behind the two before it."""
    contexts = [c for one in found.evidence if one.feature == feature for c in (*one.a, *one.b)]
    if not contexts:
        return ""
    best = max(contexts, key=lambda context: context.value)
    before = "".join(found.vocabulary.get(token, "") for token in best.token_ids[max(0, best.peak - 2) : best.peak])
    peak = found.vocabulary.get(best.token_ids[best.peak], "")
    return f"{shown_token(before)}[{shown_token(peak)}]"
