"""A dictionary of features at its place in a model, as dense values of every token.

Axes: b prompts, t position, d width of the hook that is read, o of the one that is written, f features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.code import Code, FeatureDictionary
from interp.datasets import MaskPolicy, masked_ids
from interp.errors import ConfigError
from interp.models import Model
from interp.prompts import Prompts


@dataclass(frozen=True, slots=True)
class FeatureSite:
    """An SAE, or a transcoder, where it stands. What it does not reconstruct is the site's error.

    Shapes: rows (f, o): what a unit of each feature adds to what is written.
    """

    dictionary: FeatureDictionary
    reads: str
    writes: str
    rows: Float[Tensor, "f o"]

    @staticmethod
    def of(model: Model, dictionary: FeatureDictionary) -> "FeatureSite":
        """The site of a dictionary in its model.

        Raises: ConfigError for a crosscoder, a hook of another model, or a transcoder that writes before it reads;
        UnknownHookError.
        """
        if len(dictionary.hooks_in) != 1 or len(dictionary.hooks_out) != 1:
            raise ConfigError(
                f"got a dictionary of hooks {', '.join(dictionary.hooks_in)}; a crosscoder's features stand at no one "
                "place; give SAEs or transcoders"
            )
        reads, writes = dictionary.hooks_in[0], dictionary.hooks_out[0]
        if any(model.owner(hook)[0] is not model for hook in (reads, writes)):
            raise ConfigError(f"got {writes}, a hook of another model than {model.name}; give that model itself")
        order = list(model.hooks)
        model.hook(reads), model.hook(writes)
        if order.index(reads) > order.index(writes):
            raise ConfigError(f"got a transcoder from {reads} to {writes}; expected one that reads before it writes")
        with torch.no_grad():
            rows = dictionary.directions(torch.arange(dictionary.d_sae, device=model.device)).detach()
        return FeatureSite(dictionary, reads, writes, rows.to(model.dtype))

    @property
    def d_sae(self) -> int:
        return self.rows.shape[0]

    def encoded(self, x: Float[Tensor, "b t d"]) -> "Encoded":
        """What the dictionary makes of activations."""
        return Encoded(self, self.dictionary.encode(x.flatten(0, 1)), tuple(x.shape[:2]), x.dtype)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Features of every token of a batch. Differentiable in what was encoded where autograd is on."""

    site: FeatureSite
    code: Code
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def values(self) -> Float[Tensor, "b t f"]:
        """All features, zeros included."""
        values: Tensor = self.code.dense().unflatten(0, self.shape)
        return values.to(self.dtype)

    @property
    def decoded(self) -> Float[Tensor, "b t o"]:
        """Their reconstruction of what is written."""
        decoded: Tensor = self.site.dictionary.decode(self.code).unflatten(0, self.shape)
        return decoded.to(self.dtype)


def sites_of(model: Model, dictionaries: Sequence[FeatureDictionary]) -> dict[str, FeatureSite]:
    """Sites by the hook that each writes, in the order in which a forward pass comes by.

    Raises: ConfigError if two write the same hook, or as `FeatureSite.of` does.
    """
    sites = [FeatureSite.of(model, dictionary) for dictionary in dictionaries]
    hooks = [site.writes for site in sites]
    if not sites or len(set(hooks)) < len(hooks):
        raise ConfigError(f"got dictionaries of {', '.join(hooks) or 'no hook'}; expected one or more, each of another")
    order = list(model.hooks)
    return {site.writes: site for site in sorted(sites, key=lambda site: order.index(site.writes))}


def readable(model: Model, prompts: Prompts, mask: MaskPolicy | None = None) -> Bool[Tensor, "b t"]:
    """Tokens that dictionaries speak of: neither padding nor what the mask policy spares (BOS and special tokens)."""
    spared = torch.tensor(sorted(masked_ids(model, mask or MaskPolicy())), dtype=torch.int64)
    return (prompts.real & ~torch.isin(prompts.token_ids, spared)).to(model.device)


def of_hooks(sites: Mapping[str, FeatureSite]) -> list[str]:
    """Every hook that the sites read or write, once each."""
    return list(dict.fromkeys(hook for site in sites.values() for hook in (site.reads, site.writes)))
