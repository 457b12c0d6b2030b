"""Sparse autoencoders: train them, measure them, save them in a format that others read."""

from saes.architectures import create_sae
from saes.base import SAE
from saes.batch_topk import BatchTopKSAE
from saes.config import SAEConfig
from saes.initialise import geometric_median, initialise
from saes.matryoshka import MatryoshkaSAE
from saes.standard import StandardSAE
from saes.topk import TopKSAE

__all__ = [
    "SAE",
    "BatchTopKSAE",
    "MatryoshkaSAE",
    "SAEConfig",
    "StandardSAE",
    "TopKSAE",
    "create_sae",
    "geometric_median",
    "initialise",
]
