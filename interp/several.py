"""Several names or texts where one string, which Python reads letter by letter, would pass for a list of them."""

from interp.errors import ConfigError


def check_several(what: str, given: object) -> None:
    """Refuse a lone string; `what` names what there should be several of.

    Raises: ConfigError that says how to write a list of one.
    """
    if isinstance(given, str):
        shown = given if len(given) <= 40 else f"{given[:40]}…"
        raise ConfigError(f"{what}: got the single string {shown!r}; expected a list of strings; put it in brackets")
