"""Next-token prediction as something that the training loop can fit."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LlamaModel

from interp.loop import StepReport
from interp.pretraining.config import ArchitectureConfig
from interp.pretraining.optimiser import MuonAdam
from interp.pretraining.rows import NO_TARGET, PredictionBatch
from interp.pretraining.tokenizer import BOS_ID, PAD_ID


class NextToken(nn.Module):
    """A Llama body whose embedding matrix is also its unembedding, so that every tensor is stored once."""

    def __init__(self, architecture: ArchitectureConfig, *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = LlamaModel(llama_config(architecture))
        with torch.no_grad():
            for name, weight in self.body.named_parameters():
                # Depth must not blow up the residual stream at the start (GPT-2's scaling).
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.div_(math.sqrt(2 * architecture.n_layers))

    def logits(self, token_ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Next-token logits. Rows are right-padded, so causal attention alone keeps padding out."""
        hidden = self.body(token_ids, use_cache=False).last_hidden_state
        return F.linear(hidden, self.body.embed_tokens.weight)

    def losses(self, batch: PredictionBatch) -> StepReport:
        """Cross-entropy per predicted token. Pure.

        Units: nats.
        """
        logits = self.logits(batch.token_ids).flatten(0, 1).float()
        loss = F.cross_entropy(logits, batch.targets.flatten(), ignore_index=NO_TARGET)
        return StepReport(loss, {"loss": loss.detach()}, batch.n_tokens)

    def project_gradients(self) -> None:
        """Nothing to project."""

    def after_update(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        """Nothing to restore."""

    def optimiser(self, *, lr: float, adam_lr_scale: float, weight_decay: float) -> MuonAdam:
        """Muon for the blocks' matrices, Adam for embeddings and norms."""
        matrices = [p for p in self.body.layers.parameters() if p.ndim == 2]
        taken = {id(p) for p in matrices}
        others = [p for p in self.parameters() if id(p) not in taken]
        return MuonAdam(matrices, others, lr=lr, adam_lr_scale=adam_lr_scale, weight_decay=weight_decay)

    def export(self) -> LlamaForCausalLM:
        """The same model in Hugging Face's class, on the CPU in half precision, told to stop at the end of a story."""
        model: LlamaForCausalLM = LlamaForCausalLM(self.body.config)
        model.model.load_state_dict(self.body.state_dict())
        model.tie_weights()
        model.generation_config = GenerationConfig(bos_token_id=BOS_ID, eos_token_id=BOS_ID, pad_token_id=PAD_ID)
        model.eval().half()
        return model


def llama_config(architecture: ArchitectureConfig) -> LlamaConfig:
    """Hugging Face's description of the architecture."""
    return LlamaConfig(
        vocab_size=architecture.vocab_size,
        hidden_size=architecture.d_model,
        intermediate_size=architecture.d_mlp,
        num_hidden_layers=architecture.n_layers,
        num_attention_heads=architecture.n_heads,
        num_key_value_heads=architecture.n_heads,
        max_position_embeddings=architecture.context_size,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=BOS_ID,
        eos_token_id=BOS_ID,
        pad_token_id=PAD_ID,
    )
