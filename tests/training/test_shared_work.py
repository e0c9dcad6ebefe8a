"""Work that processes share: each micrograph once, equal calls, results that outlive a kill, signals on all ranks."""

import json
import sys
import textwrap
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from sempre.training.accelerator import make_accelerator
from sempre.training.preemption import Stopped
from sempre.training.scoring import KEPT, SharedWork, results_of_training, said_by_main
from tests.warm import start_two_ranks

SHARES = textwrap.dedent("""
    import json, sys, time
    from pathlib import Path
    import torch
    import sempre.training.scoring as shared_work
    from sempre.training.accelerator import make_accelerator
    from sempre.training.preemption import Stopped

    accelerator = make_accelerator("float32", timeout_minutes=0.15)
    shared_work.MEETING_SECONDS = 1.0
    rank, kept, done = accelerator.process_index, Path("kept"), []

    def work(position):
        # The main process is slow: of equal shares it would have 14 s of work when the other has done its own.
        time.sleep(0.7 if rank == 0 else 0.05)
        done.append(position)
        return {"square": position**2, "rank": rank}

    results = shared_work.SharedWork(accelerator, kept=kept)(range(40), work, "squares of a/b")
    again = shared_work.SharedWork(accelerator, kept=kept)(range(42), work, "squares of a/b")
    print(json.dumps({"results": results, "again": again, "done": done}))

    stop = [rank == 1]
    class Signal:
        def __bool__(self):
            return stop[0]
    try:
        shared_work.SharedWork(accelerator, Signal())(range(6), work, "stopped")
    except Stopped:
        print("stopped")
    normalisation = torch.nn.BatchNorm1d(2)
    normalisation.running_mean.fill_(rank + 1)
    shared_work.same_buffers(normalisation)
    print(normalisation.running_mean.tolist(), shared_work.said_by_main(accelerator, lambda: rank))
""")


@pytest.fixture
def alone():
    AcceleratorState._reset_state(reset_partial_state=True)
    return make_accelerator("float32")


@pytest.mark.slow
def test_two_processes_divide_what_is_left_and_agree(tmp_path):
    (tmp_path / "shares.py").write_text(SHARES)
    finished = [rank.finish() for rank in start_two_ranks([sys.executable, str(tmp_path / "shares.py")], tmp_path)]
    for one in finished:
        assert one.returncode == 0, one.stderr
    lines = [[line for line in one.stdout.splitlines() if line.strip()] for one in finished]
    (main, other) = (json.loads(of_rank[0]) for of_rank in lines)
    assert main["results"] == other["results"]
    assert [result["square"] for result in main["results"]] == [position**2 for position in range(40)]
    assert main["again"][:40] == main["results"], "what is kept is not worked out again"
    assert sorted(main["done"] + other["done"]) == list(range(42)), "each once"
    assert len(other["done"]) > 2 * len(main["done"]), "who is quicker does more"
    assert [of_rank[1:] for of_rank in lines] == [["stopped", "[1.0, 1.0] 0"]] * 2


def test_results_are_kept_one_by_one_until_the_work_is_killed(alone, tmp_path):
    seen = []

    def work(position: int) -> float:
        if position == 5 and 5 not in seen:
            seen.append(position)
            raise KeyboardInterrupt
        seen.append(position)
        return position / 7

    share = SharedWork(alone, kept=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        share([3, 4, 5, 6], work, "a/b")
    assert share([3, 4, 5, 6], work, "a/b") == [3 / 7, 4 / 7, 5 / 7, 6 / 7]
    assert seen == [3, 4, 5, 5, 6]
    assert share([3, 4], lambda position: -1, "another") == [-1, -1], "of other work nothing is taken"


def test_a_signal_ends_the_work(alone):
    received = []

    class Signal:
        def __bool__(self) -> bool:
            return len(received) == 2

    with pytest.raises(Stopped):
        SharedWork(alone, Signal())(range(5), received.append, "slow")
    assert received == [0, 1]


def test_results_of_a_training_are_not_those_of_the_next(alone, tmp_path):
    manifest = tmp_path / "checkpoints/last/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("one")
    SharedWork(alone, kept=results_of_training(tmp_path, alone))([0], lambda position: "old", "scores")
    assert SharedWork(alone, kept=results_of_training(tmp_path, alone))([0], lambda position: "new", "scores") == [
        "old"
    ]
    manifest.write_text("two")
    assert SharedWork(alone, kept=results_of_training(tmp_path, alone))([0], lambda position: "new", "scores") == [
        "new"
    ]
    assert len(list((tmp_path / KEPT).iterdir())) == 1
    assert said_by_main(alone, lambda: Path("a")) == Path("a")
