"""Whether other libraries and we read each other's SAEs alike.

`python -m tests.peers.conformance` writes benchmarks/CONFORMANCE.md: format × architecture × direction, with the
largest differences seen. Each library runs in an environment of its own (benchmarks/peers.py), made on first use.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import saes
from benchmarks.peers import Peer, peer_python
from interp.storage import read_json, write_text
from saes.base import SAE
from saes.gated import GatedSAE
from saes.jumprelu import JumpReLUSAE
from saes.normalised import NormalisedSAE
from saes.transcoder import Transcoder
from tests.golden import make as golden
from tests.peers.agreement import FORMULA, OTHERS, WRITTEN, Agreement, document
from tests.specimens import HOOK, random_sae

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "benchmarks" / "CONFORMANCE.md"
D_IN, D_SAE, N_TOKENS = 16, 24, 200
PEERS: tuple[tuple[Peer, str], ...] = (
    ("saelens", "saelens_peer.py"),
    ("saelens", "dictionary_learning_peer.py"),
    ("sparsify", "sparsify_peer.py"),
)
RELEASES = {
    "gemma_scope/jumprelu": ("google/gemma-scope-2b-pt-res", "layer_1/width_16k/average_l0_3"),
    "gemma_scope/transcoder": ("google/gemma-scope-2b-pt-transcoders", "layer_1/width_16k/average_l0_3"),
    "llama_scope/jumprelu": ("fnlp/Llama3_1-8B-Base-LXR-8x", "Llama3_1-8B-Base-L1R-8x"),
}
"""Read by SAELens's own loaders of these releases, and by us, from one cache of the hub."""


BY_FORMULA = {
    "openai/TopK of normalised tokens": "openai/resid_post_mlp_v5_32k/autoencoders/1.pt",
    "openai/ReLU, standard": "openai/resid_delta_attn_v4/autoencoders/1.pt",
    "gemma_scope/second release, jumprelu skip transcoder":
        "gemma_scope/gemma-scope-2-1b-pt/transcoder/layer_1_width_16k_l0_small_affine",
    "llama_scope/second release, jumprelu": "llama_scope/Llama-Scope-R1-Distill/L1R",
    "saelens/version 3, standard, finetuned": "saelens/v3_finetuned",
    "saelens/standard, constant_scalar_rescale": "saelens/v6_constant_scalar_rescale",
}  # fmt: skip
"""Golden files of what no package to install reads: compared with the published formulas that made them."""


def measure(root: Path) -> list[Agreement]:
    """Write, let the libraries read and write, read, compare."""
    torch.manual_seed(0)
    x = torch.randn(N_TOKENS, D_IN) + 0.3
    save_file({"x": x}, root / "inputs.safetensors")
    ours = dict(specimens())
    for case, sae in ours.items():
        saes.save_sae(root / "ours" / case, sae, {"model": {"name": "tiny"}, "data": {"prepend_bos": True}})
    fill_hub_cache(root / "hub")
    for peer, script in PEERS:
        run_peer(peer, script, root)
    found = [compare(root, f"ours/{case}", sae, x, WRITTEN) for case, sae in ours.items()]
    for folder in sorted((root / "theirs").glob("*/*")):
        name = f"{folder.parent.name}/{folder.name}"
        inner = next(folder.iterdir()) if folder.parent.name == "sparsify" else folder
        found.append(compare(root, name, saes.load(inner)[0], x, "it writes, we read"))
    for name, (repository, sae_id) in RELEASES.items():
        sae, _ = saes.load(snapshot(root / "hub", repository) / sae_id)
        check_hooks(root, name, sae)
        found.append(compare(root, name, sae, x, "both read"))
    return found + [by_formula(name, golden.HERE / path) for name, path in BY_FORMULA.items()]


def specimens() -> Iterator[tuple[str, SAE]]:
    """One of each of our kinds that SAELens's format holds."""
    for name in ("topk", "batch_topk", "matryoshka", "standard"):
        for norm in ("unit", "free"):
            sae = random_sae(name, d_in=D_IN, d_sae=D_SAE, decoder_norm=norm)
            with torch.no_grad():
                sae.input_scale.fill_(0.6)
            yield f"{name}, decoder_norm {norm}", sae
    yield "topk, hook_z", random_sae("topk", d_in=D_IN, d_sae=D_SAE, hook="blocks.1.attn.hook_z")
    config = random_sae("standard", d_in=D_IN, d_sae=D_SAE).config
    yield "jumprelu", randomised(JumpReLUSAE(config, D_IN, hooks_in=(HOOK,)))
    yield "gated", randomised(GatedSAE(config, D_IN, hooks_in=(HOOK,)))
    for mode in ("layer_norm", "constant_norm", "centre"):
        yield f"standard, {mode}", NormalisedSAE(random_sae("standard", d_in=D_IN, d_sae=D_SAE), mode)
    hooks = {"hooks_in": ("blocks.1.ln2.hook_out",), "hooks_out": ("blocks.1.hook_mlp_out",)}
    for threshold in (False, True):
        for skip in (False, True):
            sae = randomised(Transcoder(config, D_IN, 12, skip=skip, **hooks))
            if not threshold:
                sae.threshold.zero_()
            yield f"{'jumprelu, ' * threshold}{'skip ' * skip}transcoder", sae


def randomised(sae: SAE) -> SAE:
    """All parameters and thresholds random."""
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
        sae.threshold.copy_(torch.rand(sae.threshold.shape))
    return sae.eval()


def fill_hub_cache(cache: Path) -> None:
    """A hub cache that holds the releases' golden layouts, at this size."""
    sizes = {"d_in": D_IN, "d_sae": D_SAE}
    golden.gemma_scope(cache / "made", **sizes)
    golden.llama_scope(cache / "made", **sizes)
    made = {
        "google/gemma-scope-2b-pt-res": "gemma-scope-2b-pt-res",
        "google/gemma-scope-2b-pt-transcoders": "gemma-scope-2b-pt-transcoders",
        "fnlp/Llama3_1-8B-Base-LXR-8x": ".",
    }
    for repository, folder in made.items():
        target = snapshot(cache, repository)
        target.parent.mkdir(parents=True)
        target.symlink_to((cache / "made" / folder).resolve())
        (target.parents[1] / "refs").mkdir()
        (target.parents[1] / "refs" / "main").write_text(target.name)


def snapshot(cache: Path, repository: str) -> Path:
    """Where the hub's client looks for a repository's files."""
    return cache / f"models--{repository.replace('/', '--')}" / "snapshots" / ("0" * 40)


def run_peer(peer: Peer, script: str, root: Path) -> None:
    """Run a script in a peer's environment; what it prints is told only if it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(root / "hub"), "OMP_NUM_THREADS": "1"}
    command = [str(peer_python(peer)), str(HERE / script), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    if done.returncode != 0:
        raise RuntimeError(f"{script} failed:\n{done.stderr[-2000:]}")


def compare(root: Path, name: str, sae: SAE, x: Tensor, direction: str) -> Agreement:
    """Our SAE beside what the library gave for the same tokens."""
    layout, case = name.split("/", 1)
    layout, other = ("saelens", "SAELens") if layout == "ours" else (layout, OTHERS[layout])
    theirs = load_file(root / "results" / f"{name}.safetensors")
    return Agreement(layout, case, direction, other, *differences(sae, x, theirs))


def check_hooks(root: Path, name: str, sae: SAE) -> None:
    """Raises: RuntimeError if the library says of a release that it belongs elsewhere than we say."""
    theirs, ours = read_json(root / "results" / f"{name}.json"), {"in": sae.hooks_in[0], "out": sae.hooks_out[0]}
    if theirs != ours:
        raise RuntimeError(f"{name}: read at {ours} by us, at {theirs} by the library")


def by_formula(name: str, path: Path) -> Agreement:
    """Our SAE beside what the published formula gives for the same tokens."""
    expected = load_file((path if path.is_dir() else path.parent) / "expected.safetensors")
    layout, case = name.split("/", 1)
    return Agreement(layout, case, "we read", FORMULA, *differences(saes.load(path)[0], expected["x"], expected))


def differences(sae: SAE, x: Tensor, theirs: dict[str, Tensor]) -> tuple[float, float, int]:
    """Largest difference of feature values and of outputs, and how many features fire for one side only."""
    with torch.no_grad():
        code = sae.encode(x)
        acts, output = code.dense(), sae.decode(code)
    n_other = int(((acts > 0) != (theirs["acts"] > 0)).sum())
    return float((acts - theirs["acts"]).abs().max()), float((output - theirs["output"]).abs().max()), n_other


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_text(TABLE, document(measure(Path(folder))))
    print(TABLE, file=sys.stderr)
