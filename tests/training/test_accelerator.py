"""Precision, and a rank that hangs."""

import sys
import textwrap

import pytest

from sempre.errors import InputError
from sempre.training.accelerator import make_accelerator
from tests.warm import start_two_ranks

HANGS = textwrap.dedent("""
    import time
    import torch
    from sempre.training.accelerator import make_accelerator

    accelerator = make_accelerator("float32", timeout_minutes=0.2)
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
    waiting, hung = start_two_ranks([sys.executable, str(tmp_path / "hangs.py")], tmp_path)
    finished = waiting.finish()
    hung.kill()
    assert finished.returncode != 0
    assert "step 1" in finished.stdout
    assert "step 2" not in finished.stdout
    assert "imed out" in finished.stderr


@pytest.mark.parametrize(("how", "code"), [("0", 0), ("75", 75), ("mistake", 2), ("crash", 1)])
def test_ranks_end_their_group_and_with_their_own_code(tmp_path, how, code):
    (tmp_path / "ends.py").write_text(ENDS)
    for rank in start_two_ranks([sys.executable, str(tmp_path / "ends.py"), how], tmp_path):
        finished = rank.finish()
        assert (finished.returncode, finished.stdout) == (code, "group left: False\n")
