"""One node's launcher inside a Slurm step: starts the node's training processes and passes on how they ended.

`srun` runs it once a node (slurm/restartable.sh). It is torchrun without torchrun's own restarts, and its exit code
tells the batch script how training ended: 0 (done), 2 (the user's mistake), 75 (stopped by a signal, saved) or 1.

SIGUSR1, which announces the end of the job, it passes on to the processes: where Slurm keeps track of processes by
cgroups, as most clusters do, `scancel --signal` reaches nobody but what `srun` has started.
"""

import os
import signal
import sys
from threading import Thread

# Before torch starts threads, for one that does not block the signal would end the process. The training processes
# inherit the block, and lift it when they can answer: what comes sooner waits for them.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

import psutil
import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

# srun passes on the highest code of all nodes: what one node says of its own outweighs those that fail in its wake.
CRASH, MISTAKE, SAVED = 1, 2, 75


def main(command: list[str]) -> int:
    if (asked := asked_gpus()) and not torch.cuda.device_count():
        print(
            f"error: the job asked for GPUs ({asked}) and PyTorch sees none on {os.uname().nodename}: look at "
            "nvidia-smi there, at the CUDA of PyTorch (python -m torch.utils.collect_env) and at --nv of the container",
            file=sys.stderr,
        )
        return MISTAKE
    Thread(target=pass_on_signals, daemon=True).start()
    environment = os.environ
    processes = environment.get("PROCESSES_PER_NODE") or torch.cuda.device_count() or 1
    options = [
        f"--nnodes={environment['SLURM_NNODES']}",
        f"--node-rank={environment['SLURM_NODEID']}",
        f"--master-addr={environment['MASTER_ADDR']}",
        f"--master-port={environment['MASTER_PORT']}",
        f"--nproc-per-node={processes}",
        "--max-restarts=0",
    ]
    try:
        run(parse_args([*options, *command]))
    except ChildFailedError as error:
        # A process that has saved no longer answers SIGUSR1 while Python shuts down, and a second one ends it.
        codes = {
            SAVED if failure.exitcode == -signal.SIGUSR1 else failure.exitcode for failure in error.failures.values()
        }
        return next((code for code in (MISTAKE, SAVED) if code in codes), CRASH)
    except SignalException:  # srun ends this node because another one has failed
        return CRASH
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # too late to change how this node ended
    return 0


def asked_gpus() -> str:
    """The GPUs of a node that the job asked for, as in 4 or a100:4; "" for none."""
    names = ("SLURM_GPUS_PER_NODE", "SLURM_GPUS", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "GPUS_PER_NODE")
    return next((asked for name in names if (asked := os.environ.get(name, "")) not in ("", "0")), "")


def pass_on_signals() -> None:
    while True:
        number = signal.sigwait({signal.SIGUSR1})
        for process in psutil.Process().children():
            process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
