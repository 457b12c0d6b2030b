"""benchmarks/gpu.sh on a machine that can only train: what it names is there, and can be imported."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "benchmarks" / "gpu.sh").read_text()
ABSENT = ("plotly", "datasets", "transformer_lens", "fastapi", "IPython")
PROGRAM = """
import runpy, sys
for name in {absent}:
    sys.modules[name] = None
sys.path[:0] = ["benchmarks", "."]
import pytest
code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-m", "gpu or not gpu", *{tests}])
for path in {benchmarks}:
    runpy.run_path(path, run_name="imported")
import interp.cli.study_tokfsm
sys.exit(code)
"""


def test_its_parts_are_found_without_what_only_draws_or_downloads():
    tests, benchmarks = (sorted(set(re.findall(rf"\b{folder}/\S+", SCRIPT))) for folder in ("tests", "benchmarks"))
    benchmarks = [path for path in benchmarks if path.endswith(".py")]
    assert len(tests) > 2
    assert len(benchmarks) > 1
    program = PROGRAM.format(absent=ABSENT, tests=tests, benchmarks=benchmarks)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_its_limits_together_are_less_than_ten_minutes():
    limits = re.findall(r'^part \w+ (?:"\$\{\w+:-)?(\d+)', SCRIPT, re.MULTILINE)
    assert len(limits) == SCRIPT.count("\npart ")
    assert sum(map(int, limits)) < 600
