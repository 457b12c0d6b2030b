"""Settings that every test shares."""

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if not torch.cuda.is_available():
    # The GPU's kernels run under triton's interpreter, which must be chosen before triton is first imported.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """One thread for tests and for what they share: on some processors the number of threads changes last bits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_start(_one_thread):
    """Every test begins with the same random state and one thread, so that a failure repeats."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real models and text that are not part of the repository."""
    folder = os.environ.get("INTERP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("INTERP_DATA names no folder with validation models and text")
    return Path(folder)
