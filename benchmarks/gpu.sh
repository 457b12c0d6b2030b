#!/bin/sh
# What a GPU must say again after kernels, optimiser or pipeline have changed; about ten minutes of one GPU.
#
#     sh benchmarks/gpu.sh OUT
#
# Needs torch, triton, transformers, tokenizers, pydantic, click, rich, pyyaml, safetensors, jaxtyping, beartype, pytest;
# not plotly, datasets or transformer-lens. Each part goes on if the one before it failed; OUT gets one log each.
out=${1:?a folder for the logs}
mkdir -p "$out"
export PYTHONPATH="$PWD:$PWD/benchmarks:$PYTHONPATH"
part() {
    name=$1; limit=$2; shift 2
    timeout "$limit" "$@" > "$out/$name.txt" 2>&1
    echo "$name: ended with $?: $(tail -n 1 "$out/$name.txt")"
}
# Values and gradients of every kernel beside their eager twins.
part parity 150 python3 -m pytest -q -m "gpu or not gpu" tests/oracle/saes/test_triton_parity.py
# Whole runs and their resume, streams between devices, clocks.
part runs 150 python3 -m pytest -q -m gpu tests/acceptance/test_runs_by_device.py tests/unit/interp
# Whether what is made ahead, and a compiled forward pass, pay.
part pipeline 150 python3 benchmarks/pipeline.py --device cuda --dtype bfloat16 --tokens 4M --rounds 2
# Tokens per second of a step beside the ceiling of its product.
part step 180 python3 benchmarks/sae_step_cuda.py --libraries ours --k 32,64 --steps 6 --profile
# The reference study of codebooks at the paper's size, for as long as there is time.
part tokfsm "${TOKFSM_SECONDS:-60}" python3 -m interp study tokfsm --size paper --device cuda --out "$out/tokfsm"
