"""Precision, and a rank that hangs."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sempre.errors import InputError
from sempre.training.accelerator import make_accelerator

ROOT = Path(__file__).parents[2]

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

ENDS = textwrap.dedent("""
    import atexit, sys
    import torch
    from sempre.errors import InputError, run_command
    from sempre.training.accelerator import make_accelerator

    def main():
        atexit.register(lambda: print(f"group left: {torch.distributed.is_initialized()}"))  # after later ones
        accelerator = make_accelerator("float32")
        accelerator.reduce(torch.ones(1))
        match sys.argv[1]:
            case "mistake":
                raise InputError("that cannot be")
            case "crash":
                raise RuntimeError("a bug")
            case code:
                return int(code)

    run_command(main)
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


@pytest.mark.parametrize(("how", "code"), [("0", 0), ("75", 75), ("mistake", 2), ("crash", 1)])
def test_ranks_end_their_group_and_with_their_own_code(tmp_path, how, code):
    (tmp_path / "ends.py").write_text(ENDS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "ends.py"), how],
            env=os.environ | shared | {"PYTHONPATH": str(ROOT), "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in "01"
    ]
    for rank in ranks:
        said, _ = rank.communicate(timeout=120)
        assert (rank.returncode, said) == (code, "group left: False\n")
