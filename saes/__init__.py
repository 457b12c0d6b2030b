"""Sparse autoencoders: train them, measure them, save them in a format that others read."""

from interp.code_edits import ablate_features, pin_features
from saes.architectures import create_sae
from saes.base import SAE
from saes.baseline_run import run_baseline
from saes.baselines import Baseline, fit_baseline
from saes.batch_topk import BatchTopKSAE
from saes.config import SAEConfig
from saes.encoded_parquet import EncodedFile, encode_file
from saes.encoding import Entries, encode_texts, iter_entries
from saes.evaluate_run import evaluate_run
from saes.evaluation import Evaluation, evaluate
from saes.features import FeatureStatistics, collect_features
from saes.importing import import_sae
from saes.initialise import geometric_median, initialise
from saes.io import load, load_facts, load_sae, save_sae
from saes.matryoshka import MatryoshkaSAE
from saes.opening import OpenedSAE, open_sae
from saes.run_parts import RunParts, open_run
from saes.splicing import splice
from saes.standard import StandardSAE
from saes.topk import TopKSAE
from saes.training import TrainConfig, train

__all__ = [
    "SAE",
    "Baseline",
    "BatchTopKSAE",
    "EncodedFile",
    "Entries",
    "Evaluation",
    "FeatureStatistics",
    "MatryoshkaSAE",
    "OpenedSAE",
    "RunParts",
    "SAEConfig",
    "StandardSAE",
    "TopKSAE",
    "TrainConfig",
    "ablate_features",
    "collect_features",
    "create_sae",
    "encode_file",
    "encode_texts",
    "evaluate",
    "evaluate_run",
    "fit_baseline",
    "geometric_median",
    "import_sae",
    "initialise",
    "iter_entries",
    "load",
    "load_facts",
    "load_sae",
    "open_run",
    "open_sae",
    "pin_features",
    "run_baseline",
    "save_sae",
    "splice",
    "train",
]
