"""A trained lens, or none but the logit lens, put to use: on a text, or on held-out text again."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from interp.datasets import open_stream
from interp.errors import ArtifactError, ConfigError
from interp.lenses.divergence import LensDivergence, measure_divergence
from interp.lenses.folder import LensFolder, load_lens
from interp.lenses.future import FutureLens, Method
from interp.lenses.grid import LensGrid, encode_text, read_future, read_logit, read_tuned
from interp.lenses.logit import Reconstruct
from interp.lenses.measure import measure_table
from interp.lenses.table import LensTable
from interp.lenses.training import count_followers, draw_examples, provenance_of
from interp.lenses.tuned import TunedLens
from interp.models import Model, load_model
from interp.runs import RunFolder

PREFERRED: tuple[Method, ...] = ("linear_hidden", "linear_vocab", "learned_prompt", "fixed_prompt")
DEFAULT_TEXT = "Once upon a time, there was a little girl who loved to play with her dog. One day, she saw a big"
Tell = Callable[[str, int, int], None]


def open_lens(source: str, *, model_name: str | None, device: str) -> TunedLens | FutureLens:
    """The lens of a run.

    Raises: ArtifactError if there is no run, or another kind of run.
    """
    return load_lens(source, model_name=model_name, device=device)


def check_dictionary(model: Model, trained_on: str | None, name: str) -> None:
    """Raises: ArtifactError if a dictionary was trained on activations of another model than the lens reads."""
    if trained_on is not None and trained_on != model.content_hash:
        raise ArtifactError(
            f"{name}: was trained on a model of hash {trained_on[:12]}…; the lens reads {model.name}, "
            f"{model.content_hash[:12]}…; give an SAE of the same model"
        )


def blind_methods(lens: FutureLens) -> tuple[Method, ...]:
    """What the lens can read from a state alone, the least costly first."""
    return tuple(
        method
        for method in PREFERRED
        if method in lens.methods and (method != "learned_prompt" or "blind" in lens.modes)
    )


def read_text(
    source: str,
    text: str,
    *,
    method: Method | None = None,
    reconstruct: Mapping[str, Reconstruct] | None = None,
    trained_on: str | None = None,
    model_name: str | None = None,
    device: str = "auto",
) -> LensGrid:
    """A text through the lens of a run, whose grid.json is written, or through the logit lens of a model.

    `trained_on`: hash of the model that a reconstruction belongs to.
    Raises: ArtifactError for a damaged run or a reconstruction of another model; DataError for a text that does not
    fit; ConfigError for a method that the lens lacks, or a model or method beside a plain model.
    """
    if not RunFolder(Path(source)).started:
        if method is not None or model_name is not None:
            raise ConfigError(f"{source}: is no run, so that the logit lens reads it; leave --method and --model out")
        model = load_model(source, device=device)
        check_dictionary(model, trained_on, "--sae")
        return read_logit(model, encode_text(model, text), reconstruct=reconstruct)
    lens = open_lens(source, model_name=model_name, device=device)
    check_dictionary(lens.model, trained_on, "--sae")
    token_ids = encode_text(lens.model, text)
    if isinstance(lens, TunedLens):
        if method is not None:
            raise ConfigError(f"method: got {method}; {source} holds a tuned lens, which has none; leave it out")
        grid = read_tuned(lens, token_ids, reconstruct=reconstruct)
    else:
        held = blind_methods(lens)
        chosen = method or (held[0] if held else None)
        if chosen not in held:
            raise ConfigError(f"method: got {chosen}; this lens reads by {', '.join(held) or 'none, blind'}")
        grid = read_future(lens, token_ids, method=chosen, reconstruct=reconstruct)
    grid.save(LensFolder.open(source).grid_path)
    return grid


def measure_again(
    source: str,
    *,
    reconstruct: Mapping[str, Reconstruct] | None = None,
    trained_on: str | None = None,
    n_tokens: int = 50_000,
    tuned: Path | str | None = None,
    model_name: str | None = None,
    device: str = "auto",
    tell: Tell = lambda _stage, _done, _total: None,
) -> LensDivergence | LensTable:
    """A run's lens on held-out text once more: on reconstructions, or beside a tuned lens.

    Raises: ArtifactError for a damaged run or a reconstruction of another model; ConfigError for a tuned lens beside
    another, or beside a lens of another model.
    """
    lens = open_lens(source, model_name=model_name, device=device)
    check_dictionary(lens.model, trained_on, "--sae")
    folder = LensFolder.open(source)
    config = folder.config
    stream = open_stream(config.dataset, lens.model, config.data)
    heldout = stream.with_split("heldout")
    facts = provenance_of(folder.run, heldout) | {"reconstructed": list(reconstruct or {})}
    if isinstance(lens, TunedLens):
        if tuned is not None:
            raise ConfigError(f"--tuned: got {tuned} beside {source}, a tuned lens itself; leave it out")
        return measure_divergence(
            lens, heldout, n_tokens=n_tokens, reconstruct=reconstruct, seed=config.seed, provenance=facts
        )
    beside = None if tuned is None else open_lens(str(tuned), model_name=model_name, device=device)
    if beside is not None and not isinstance(beside, TunedLens):
        raise ConfigError(f"--tuned: {tuned} holds a Future Lens; give a run with lens: tuned")
    if beside is not None and beside.model.content_hash != lens.model.content_hash:
        raise ConfigError(f"--tuned: {tuned} is of another model than {source}; train one on the same model")
    return measure_table(
        lens,
        draw_examples(config, lens, heldout, tell),
        counted=count_followers(config, lens.model, stream),
        tuned=beside,
        reconstruct=reconstruct,
        decoding=config.future.decoding,
        seed=config.seed,
        provenance=facts,
        on_progress=lambda done, total: tell("arms", done, total),
    )


def grids_of(run_folders: Sequence[Path], text: str | None = None) -> list[LensGrid]:
    """Every grid that runs can give of one text (None: the opening of a story): the logit lens once, then each method.

    Raises: ArtifactError for a damaged run; DataError for a text that does not fit.
    """
    grids: list[LensGrid] = []
    for path in run_folders:
        lens = open_lens(str(path), model_name=None, device="auto")
        token_ids = encode_text(lens.model, DEFAULT_TEXT if text is None else text, cut=text is None)
        if not grids:
            grids.append(read_logit(lens.model, token_ids))
        if isinstance(lens, TunedLens):
            grids.append(read_tuned(lens, token_ids))
        else:
            grids += [read_future(lens, token_ids, method=method) for method in blind_methods(lens)]
    return grids
