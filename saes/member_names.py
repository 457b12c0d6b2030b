"""Short names for the members of a sweep, from what they differ in."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from saes.config import CODEBOOK

_LETTERS = {
    "sae.k": "k",
    "sae.d_sae": "d",
    "schedule.lr": "lr",
    "seed": "s",
    "sae.l1_coefficient": "l1_",
    "shuffle.seed": "shuffle.seed",
}
_BARE = {"sae.architecture", "sae.codebook_variant", "optimiser"}
_OF_VARIANT = {"sae.n_groups": "grouped", "sae.n_stages": "residual", "sae.levels": "latent"}
"""Settings that say nothing but for one variant of codebooks."""
_ORDER = ("hook", "sae.architecture", "sae.codebook_variant", "sae.k", "sae.l1_coefficient", "sae.d_sae", "schedule.lr")


def member_names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name for each: `matryoshka_k32_d4096_s0`. What is the same for all is left out, the seed stands last.

    So is what a member has no use for: stages of an SAE that is no residual codebook.

    Names are fit for folders and differ from each other.
    """
    names = [told or "sae" for told in differing_settings(settings)]
    seen: Counter[str] = Counter()
    counts = Counter(names)
    unique = []
    for name in names:
        seen[name] += 1
        # Values that differ in signs which a folder's name leaves out.
        unique.append(name if counts[name] == 1 else f"{name}-{seen[name]}")
    return unique


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each has otherwise than some other, as `k32_lr1e-3`: empty, or the same as another's, where that tells none.

    So it is where what differs does not matter, or differs in signs that a folder's name leaves out.
    """
    keys = [key for key in settings[0] if len({str(one[key]) for one in settings}) > 1]
    keys.sort(key=lambda key: (key == "seed", _ORDER.index(key) if key in _ORDER else len(_ORDER)))
    return ["_".join(_part(key, one[key]) for key in keys if matters(key, one)) for one in settings]


def matters(key: str, one: Mapping[str, Any]) -> bool:
    """Whether a setting says anything of a member with these: those of codebooks do for their variant alone."""
    if key != "sae.codebook_variant" and key not in _OF_VARIANT:
        return True
    variant = one.get("sae.codebook_variant")
    alike = key == "sae.codebook_variant" or variant in (None, _OF_VARIANT[key])
    return alike and one.get("sae.architecture") in (None, CODEBOOK)


def short_hook(name: str) -> str:
    """A hook's name for labels: blocks.2.hook_resid_post -> L2.resid_post."""
    return re.sub(r"^blocks\.(\d+)\.", r"L\1.", name).replace("hook_", "")


def _part(key: str, value: Any) -> str:
    if key in _BARE:
        return _safe(value)
    if key in ("hook", "hook_out"):
        return _safe(short_hook(str(value)))
    return _LETTERS.get(key, key.split(".")[-1].replace("_", "-")) + _safe(_number(value))


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    if value and abs(value) < 0.01:
        mantissa, exponent = f"{value:.5e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}".replace("e+", "e")


def _safe(value: Any) -> str:
    text = "-".join(str(part) for part in value) if isinstance(value, list) else str(value)
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.")[:60] or "none"
