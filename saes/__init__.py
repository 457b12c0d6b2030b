"""Sparse autoencoders: train them, measure them, save them in a format that others read."""

from saes.architectures import create_sae
from saes.base import SAE
from saes.batch_topk import BatchTopKSAE
from saes.config import SAEConfig
from saes.evaluate_run import evaluate_run
from saes.evaluation import Evaluation, evaluate
from saes.features import FeatureStatistics, collect_features
from saes.initialise import geometric_median, initialise
from saes.io import load_facts, load_sae, save_sae
from saes.matryoshka import MatryoshkaSAE
from saes.run_parts import RunParts, open_run
from saes.standard import StandardSAE
from saes.topk import TopKSAE
from saes.training import TrainConfig, train

__all__ = [
    "SAE",
    "BatchTopKSAE",
    "Evaluation",
    "FeatureStatistics",
    "MatryoshkaSAE",
    "RunParts",
    "SAEConfig",
    "StandardSAE",
    "TopKSAE",
    "TrainConfig",
    "collect_features",
    "create_sae",
    "evaluate",
    "evaluate_run",
    "geometric_median",
    "initialise",
    "load_facts",
    "load_sae",
    "open_run",
    "save_sae",
    "train",
]
