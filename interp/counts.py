"""Numbers of tokens as people write them: 2_000_000, 2e6, 300k, 4M, 1B."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def parse_count(value: Any) -> Any:
    """An integer from text such as "4M"; anything else is left for validation to refuse."""
    if not isinstance(value, str):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    match = re.fullmatch(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([kmb]?)\s*", value, re.IGNORECASE)
    if match is None:
        return value
    number = float(match[1].replace("_", "").replace(",", "")) * _UNITS[match[2].lower()]
    return int(number) if number.is_integer() else value


TokenCount = Annotated[int, BeforeValidator(parse_count), Field(ge=1)]
