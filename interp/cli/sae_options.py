"""What commands are told of an SAE from elsewhere whose files do not say it."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def said_of_the_sae(function: F) -> F:
    """--hook, --activation-scale and --no-bos, by the names that `saes.open_sae` takes."""
    for option in reversed(
        (
            click.option(
                "--hook", help="Where it was trained, if its files do not say: a name such as blocks.2.hook_resid_post."
            ),
            click.option(
                "--activation-scale",
                type=click.FloatRange(min=0, min_open=True),
                help="What activations were multiplied by in training, if its files do not say.",
            ),
            click.option(
                "--no-bos",
                "prepend_bos",
                flag_value=False,
                type=bool,
                default=None,
                help="Put no BOS token before texts, where its files say so and the model's tokenizer has none.",
            ),
        )
    ):
        function = option(function)
    return function
