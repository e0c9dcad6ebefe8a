"""Work that processes share: each micrograph once, equal calls, results that outlive a kill, signals on all ranks."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from sempre.training.accelerator import make_accelerator
from sempre.training.preemption import Stopped
from sempre.training.scoring import KEPT, SharedWork, results_of_training, said_by_main
from tests.warm import WarmProcess, start_two_ranks

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


RECIPE = textwrap.dedent("""
    import importlib, json, sys, time
    recipe = importlib.import_module(sys.argv[1])
    worker, done, real = sys.argv[2], [], None

    def slowly(*arguments):
        time.sleep(0.3)  # what a micrograph takes, on a busy machine too
        done.append(1)
        return real(*arguments)

    real = getattr(recipe, worker)
    setattr(recipe, worker, slowly)
    sys.argv[1:3] = []
    start = time.monotonic()
    recipe.main()
    print(json.dumps({"scored": len(done), "seconds": time.monotonic() - start}))
""")
RECIPES = {
    "evaluate.watershed": ("otsu_watershed", "validation_fraction=0.9"),
    "evaluate.bundle": ("predict", "validation_fraction=0.9", "threads=1"),
}


@pytest.fixture(scope="module")
def labelled_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    command = [sys.executable, "data/synthesize.py", f"out={folder}", "labelled=14", "unlabelled=0", "size=64"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "labelled"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_evaluators_in_two_processes_score_half_of_the_micrographs_each(tmp_path, labelled_set, recipe):
    (tmp_path / "recipe.py").write_text(RECIPE)
    command = [sys.executable, str(tmp_path / "recipe.py"), recipe, *RECIPES[recipe][:1], f"data={labelled_set}"]
    command += RECIPES[recipe][1:]
    alone = WarmProcess([*command, "name=alone"], tmp_path).finish()
    finished = [rank.finish() for rank in start_two_ranks([*command, "name=shared"], tmp_path)]
    for one in (alone, *finished):
        assert one.returncode == 0, one.stderr
    before, *after = (json.loads(one.stdout.splitlines()[-1]) for one in (alone, *finished))
    scored = sorted(of_rank["scored"] for of_rank in after)
    assert sum(scored) == before["scored"] == 13, "each micrograph once"
    assert scored == [6, 7], "each process half"
    print([of_one["seconds"] for of_one in (before, *after)])
    summaries = [json.loads((tmp_path / f"runs/{name}/summary.json").read_text()) for name in ("alone", "shared")]
    for summary in summaries:
        summary["repeats"][0].pop("seconds_a_micrograph")
    assert summaries[0] == summaries[1]


WAITING = textwrap.dedent("""
    import sys, time
    from sempre.errors import InputError, run_command
    from sempre.training.accelerator import make_accelerator
    from sempre.training.scoring import done_by_main

    def work():
        time.sleep(8)  # longer than the processes wait for each other
        if "fail" in sys.argv:
            raise InputError("it cannot be")
        return "done"

    def main():
        accelerator = make_accelerator("float32", timeout_minutes=0.05)
        print(accelerator.process_index, done_by_main(accelerator, work))

    run_command(main)
""")


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["done", "fail"])
def test_the_others_wait_for_the_main_process_however_long_it_takes(tmp_path, outcome):
    (tmp_path / "waiting.py").write_text(WAITING)
    finished = [
        rank.finish() for rank in start_two_ranks([sys.executable, str(tmp_path / "waiting.py"), outcome], tmp_path)
    ]
    if outcome == "done":
        assert [(one.returncode, one.stdout.split()) for one in finished] == [(0, ["0", "done"]), (0, ["1", "done"])]
    else:
        assert [one.returncode for one in finished] == [2, 2], [one.stderr for one in finished]
        assert "it cannot be" in finished[0].stderr
        assert "Traceback" not in finished[1].stderr


UNET = (
    "input=raw",
    "width=2",
    "crop=32",
    "crops_an_epoch=8",
    "size=0",
    "epochs=2",
    "validation_fraction=0.4",
    "name=unet",
)


@pytest.mark.slow
def test_the_unet_in_two_processes_trains_one_network_and_shares_its_scoring(tmp_path, labelled_set):
    (tmp_path / "recipe.py").write_text(RECIPE.replace("0.3", "0.1"))
    command = [
        sys.executable,
        str(tmp_path / "recipe.py"),
        "finetune.unet",
        "score_fold",
        f"data={labelled_set}",
        *UNET,
    ]
    finished = [rank.finish() for rank in start_two_ranks(command, tmp_path)]
    assert [one.returncode for one in finished] == [0, 0], [one.stderr for one in finished]
    assert "Dice" in finished[0].stdout and "Dice" not in finished[1].stdout
    summary = json.loads((tmp_path / "runs/unet/summary.json").read_text())
    (fold,) = summary["folds"].values()
    masks = {file.stem for file in (tmp_path / "runs/unet/fold-0/predictions").iterdir()}
    assert set(fold["samples"]) == masks and len(masks) == summary["micrographs"] > 2
    steps = [json.loads(line) for line in (tmp_path / "runs/unet/fold-0/log.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in steps) == 2, "a step an epoch, of all processes together"
    assert not (tmp_path / "runs/unet/fold-0" / KEPT).exists()
