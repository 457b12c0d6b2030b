"""Short names of codes: layer.site.group.code, such as 2.attn.5.731; codebooks without groups have group 0."""

import re
from dataclasses import dataclass

from interp.codebooks.insertion import SITE_HOOKS, Codebooks
from interp.errors import ConfigError

_SITES = {hook: site for site, hook in SITE_HOOKS.items()}


@dataclass(frozen=True, slots=True, order=True)
class CodeName:
    """Which code of which codebook."""

    hook: str
    group: int
    code: int

    def __str__(self) -> str:
        return f"{book_name(self.hook, self.group)}.{self.code}"

    @staticmethod
    def parse(text: str, codebooks: Codebooks) -> "CodeName":
        """From its short name.

        Raises: ConfigError if it is no name, or there is no such code.
        """
        match = re.fullmatch(r"(\d+)\.(attn|mlp|resid)\.(\d+)\.(\d+)", text.strip())
        if match is None:
            raise ConfigError(f"got code {text!r}; expected layer.site.group.code, such as 2.attn.5.731")
        layer, site, group, code = match.groups()
        name = CodeName(f"blocks.{layer}.{dict(SITE_HOOKS)[site]}", int(group), int(code))  # type: ignore[index]
        if name.hook not in codebooks.hooks:
            held = ", ".join(dict.fromkeys(book_name(hook, 0).rsplit(".", 1)[0] for hook in codebooks.hooks))
            raise ConfigError(f"got code {text!r}; there are codebooks at {held or 'no place'}")
        quantiser = codebooks[name.hook]
        if name.group >= quantiser.n_groups or name.code >= quantiser.n_codes:
            raise ConfigError(
                f"got code {text!r}; there are groups 0 to {quantiser.n_groups - 1} and codes 0 to "
                f"{quantiser.n_codes - 1}"
            )
        return name


def book_name(hook: str, group: int) -> str:
    """The short name of one codebook."""
    _, layer, rest = hook.split(".", 2)
    return f"{layer}.{_SITES[rest]}.{group}"
