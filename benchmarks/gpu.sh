#!/bin/sh
# What a GPU must say again after kernels, optimiser or pipeline have changed; nine minutes of one GPU.
#
#     sh benchmarks/gpu.sh OUT
#
# Needs torch, triton, transformers, tokenizers, pydantic, click, rich, pyyaml, safetensors, jaxtyping, beartype, scipy,
# pyarrow, pytest, pytest-timeout; not plotly, datasets or transformer-lens. Each part goes on if the one before it
# failed; OUT gets one log each. All limits together are nine minutes.
out=${1:?a folder for the logs}
mkdir -p "$out"
export PYTHONPATH="$PWD:$PWD/benchmarks:$PYTHONPATH"
part() {
    name=$1; limit=$2; shift 2
    timeout "$limit" "$@" > "$out/$name.txt" 2>&1
    echo "$name: ended with $?: $(tail -n 1 "$out/$name.txt")"
}
# Values and gradients of every kernel beside their eager twins.
part parity 110 python3 -m pytest -q -m "gpu or not gpu" tests/oracle/saes/test_triton_parity.py tests/unit/saes/test_waits.py
# Whole runs and their resume, streams between devices, clocks.
part runs 110 python3 -m pytest -q -m gpu tests/acceptance/test_runs_by_device.py tests/unit/interp/activations \
    tests/unit/interp/test_timing.py
# Tokens per second of a step beside the ceiling of its product.
part step 150 python3 benchmarks/sae_step_cuda.py --libraries ours --k 32,64 --steps 6 --profile --out "$out/step.json"
# Whether the eager operators pay anywhere: where they do, saes.ops.acceleration must leave the work to them.
part eager 60 python3 benchmarks/sae_step_cuda.py --libraries ours,eager --sizes tiny,small --k 32 --steps 4 \
    --out "$out/eager.json"
# Whether what is made ahead, and a compiled forward pass, pay.
part pipeline 80 python3 benchmarks/pipeline.py --device cuda --dtype bfloat16 --tokens 2M --rounds 1
# The reference study of codebooks at the paper's size, for as long as there is time.
part tokfsm "${TOKFSM_SECONDS:-30}" python3 -m interp study tokfsm --size paper --device cuda --out "$out/tokfsm"
