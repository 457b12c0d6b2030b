"""Finite-state sources whose best predictors are known, and transformers that speak them.

Symbols are the tokens FIRST to FIRST + n - 1 of the tiny tokenizer, so that no special token is among them.
"""

import numpy as np
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from interp.models import wrap_model
from tests.families import CONTEXT, D_VOCAB, tiny_tokenizer

FIRST = 4


class Markov:
    """An order-2 source over n symbols: p[a, b] is the distribution of what follows a, b."""

    def __init__(self, p):
        self.p, self.n = np.asarray(p), len(p)

    @staticmethod
    def drawn(n, *, concentration, seed):
        """Rows from a symmetric Dirichlet: the smaller its concentration, the less surprising the source."""
        return Markov(np.random.default_rng(seed).dirichlet(np.full(n, concentration), size=(n, n)))

    def rows(self, n_rows, length, *, seed):
        """Sequences of token ids that begin with two uniform symbols."""
        draw = np.random.default_rng(seed)
        found = draw.integers(self.n, size=(n_rows, 2))
        cumulated = self.p.cumsum(-1)
        for _ in range(length - 2):
            below = cumulated[found[:, -2], found[:, -1]]
            following = (draw.random((n_rows, 1)) > below[:, :-1]).sum(1)
            found = np.column_stack([found, following])
        return torch.from_numpy(found + FIRST)

    @property
    def after_two(self):
        """What stands two places after a, b: the symbol between is summed over."""
        return np.einsum("abc,bcd->abd", self.p, self.p)

    def best_blind(self, last):
        """Precision@1 at N = 1 of the best predictor from the prefix alone, on average over its last two tokens."""
        a, b = (np.asarray(last) - FIRST).T
        return float(self.after_two[a, b].max(-1).mean())

    def best_fed(self, last, following):
        """The same where the token in between is given."""
        b, c = np.asarray(last)[:, 1] - FIRST, np.asarray(following) - FIRST
        return float(self.p[b, c].max(-1).mean())


def _config(d_model, n_layers):
    return LlamaConfig(
        vocab_size=D_VOCAB, hidden_size=d_model, intermediate_size=2 * d_model, num_hidden_layers=n_layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip


def speaks_order_1(p, *, n_layers=2):
    """A transformer whose blocks add nothing and whose unembedding holds log p: the chain exactly, by construction."""
    n = len(p)
    hf = LlamaForCausalLM(_config(48, n_layers))
    with torch.no_grad():
        for layer in hf.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        hf.model.norm.weight.fill_(1.0)
        hf.model.embed_tokens.weight.zero_()
        hf.lm_head.weight.zero_()
        # The norm takes a unit vector to the length √d.
        for symbol in range(n):
            hf.model.embed_tokens.weight[FIRST + symbol, symbol] = 1.0
            hf.lm_head.weight[:, symbol] = -30.0 / 48**0.5
            hf.lm_head.weight[FIRST : FIRST + n, symbol] = torch.from_numpy(np.log(p[symbol])).float() / 48**0.5
    return wrap_model(hf.requires_grad_(False), tiny_tokenizer(), name="order-1 chain")


def learns(source, *, n_steps, d_model=32, n_layers=2, seed=0):
    """A small transformer trained on an order-2 source, and its loss at the end in nats per token."""
    torch.manual_seed(seed)
    hf = LlamaForCausalLM(_config(d_model, n_layers))
    optimiser = torch.optim.AdamW(hf.parameters(), lr=5e-3, weight_decay=0.0)
    for step in range(n_steps):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * min(1.0, 2.0 * (n_steps - step) / n_steps)
        rows = source.rows(64, CONTEXT, seed=seed * 1_000_000 + step)
        logits = hf(rows, use_cache=False).logits[:, 1:-1]
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 2:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return wrap_model(hf.requires_grad_(False), tiny_tokenizer(), name="order-2 learner"), float(loss.detach())
