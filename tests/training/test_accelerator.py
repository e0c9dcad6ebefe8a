"""Precision, and a rank that hangs."""

import subprocess
import sys
import textwrap

import pytest

from sempre.errors import InputError
from sempre.training.accelerator import make_accelerator

HANGS = textwrap.dedent("""
    import time
    import torch
    from sempre.training.accelerator import make_accelerator

    accelerator = make_accelerator("float32", timeout_minutes=0.3)
    for step in range(3):
        if step == 2 and accelerator.process_index == 1:
            time.sleep(300)
        accelerator.reduce(torch.ones(1))
        accelerator.print(f"step {step}", flush=True)
""")


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="choose auto, bf16 or float32"):
        make_accelerator("fp8")


@pytest.mark.slow
def test_a_hung_rank_is_an_error_within_the_timeout(tmp_path):
    (tmp_path / "hangs.py").write_text(HANGS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished = subprocess.run(
        [*launch, str(tmp_path / "hangs.py")], capture_output=True, text=True, check=False, timeout=120
    )
    assert finished.returncode != 0
    assert "step 1" in finished.stdout
    assert "step 2" not in finished.stdout
    assert "imed out" in finished.stderr
