"""Whose neurons codes are held against, and those drawn for detection."""

from interp.codebooks.detection import Detection, cut_neurons
from interp.codebooks.files import CodebookModel
from interp.codebooks.neurons import draw_neurons, neuron_activations
from interp.codebooks.record import CodeRecord
from interp.datasets import TokenStream
from interp.errors import ArtifactError, ConfigError
from interp.models import Model, load_model


def rival_model(held: CodebookModel, plain: CodebookModel | None) -> tuple[Model, str]:
    """The model whose neurons are the rivals, and how it is told.

    Raises: ConfigError if `plain` has codebooks or another base model; ArtifactError if the base model has changed.
    """
    base = held.folder.run.manifest().model.get("content_hash")
    if plain is None:
        model = load_model(held.config.model, device=str(held.model.device))
        if model.content_hash != base:
            raise ArtifactError(
                f"{held.config.model}: has changed since {held.folder.run.path} was trained from it; restore it, or "
                "give a plain finetune as --neurons"
            )
        return model, f"the base model, {held.config.model}"
    path = plain.folder.run.path
    if plain.codebooks.hooks:
        raise ConfigError(f"{path}: has codebooks; neurons are taken from a plain finetune (--at '')")
    if plain.folder.run.manifest().model.get("content_hash") != base:
        raise ConfigError(f"{path}: began from another base model than {held.folder.run.path}; give one of the same")
    return plain.model, f"the finetune without codebooks, {plain.folder.run.name}"


def rivals_of(
    model: Model, stream: TokenStream, record: CodeRecord, shares: list[float], seed: int
) -> tuple[Detection, ...]:
    """As many neurons as codes, drawn by seed; only theirs are held."""
    drawn = draw_neurons(model, len(shares), seed=seed)
    only: dict[str, list[int]] = {}
    for hook, m in drawn:
        only.setdefault(hook, []).append(m)
    acts = neuron_activations(model, stream.iter_pass(), n_tokens=len(record), only=only) if only else {}
    found = [(hook, m, acts[hook][:, only[hook].index(m)]) for hook, m in drawn]
    return cut_neurons(record, found, shares[: len(found)], seed=seed)
