"""Arguments of the wrong type, as a script may give them: outside tests no type is checked at run time."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping


@contextmanager
def unchecked() -> Iterator[None]:
    """What the library itself says of an argument, with the type checks of the tests put aside."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
