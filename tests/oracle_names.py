"""Names of the bridge's tensors where its aliases and ours differ: blocks with norms after each addition (BERT).

There the bridge's own aliases point past the norm. These are the tensors that TransformerLens's encoder block has under
the same names: the stream is what attention and MLP add to.
"""

_TENSORS = {
    "hook_embed": "embed.hook_out",
    "hook_token_type_embed": "token_type_embed.hook_out",
    "hook_pos_embed": "pos_embed.hook_out",
    "hook_attn_out": "attn.o.hook_out",
    "hook_resid_mid": "ln1.hook_in",
}


def bridge_name(name: str) -> str:
    """The bridge's name of an encoder's hook."""
    head, _, tail = name.rpartition(".")
    return f"{head}.{_TENSORS.get(tail, tail)}".lstrip(".")
