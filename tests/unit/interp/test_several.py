"""One string is refused wherever several are expected, before it is read letter by letter."""

import pytest
import torch

from interp.code import ActivationBatch
from interp.errors import ConfigError
from interp.hooks import capture
from interp.prompts import encode_prompts
from interp.several import check_several
from tests.families import tiny_model, tiny_tokens

HOOK = "blocks.1.hook_resid_post"


def test_a_single_string_is_no_list():
    model, index = tiny_model("llama"), torch.zeros(2, dtype=torch.int64)
    batch = ActivationBatch({HOOK: torch.ones(2, 4)}, index, index, index)
    for name, act in {
        "hooks": lambda: capture(model, tiny_tokens(), HOOK),
        "texts": lambda: encode_prompts(model, "w4"),
        "answers": lambda: encode_prompts(model, ["w4", "w5"], answers="w6"),
        "foils": lambda: encode_prompts(model, ["w4", "w5"], answers=["w6", "w6"], foils="w7"),
    }.items():
        with pytest.raises(ConfigError, match=rf"^{name}: got the single string .*; expected a list of strings"):
            act()
    with pytest.raises(ConfigError, match=r"^hooks: got the single string"):
        batch.stacked(HOOK)


def test_lists_pass_and_a_long_text_is_told_in_one_line():
    check_several("texts", ["a", "b"])
    check_several("texts", ())
    with pytest.raises(ConfigError) as raised:
        check_several("texts", "Lily was happy.\n" * 100)
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 160
