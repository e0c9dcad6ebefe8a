"""A Slurm cluster of two nodes on this machine, in a folder of its own, without root and without systemd."""

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
FREEZER = Path("/sys/fs/cgroup/freezer")  # the control groups, of version 1, that proctrack/cgroup takes
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
# Debian puts the daemons where an ordinary user's PATH does not look.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/{proctrack}
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MailProg=/bin/true
MinJobAge=7200
KillWait=20
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """Commands in the cluster's environment, and what a test wants to know of a job."""

    def __init__(self, folder: Path):
        self.folder = folder
        settings = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH, "OMP_NUM_THREADS": "1"}
        self.environment = os.environ | settings

    def command(self, *arguments: object, cwd: Path | None = None, **environment: str) -> str:
        """A command's output; its complaint on failure."""
        finished = subprocess.run(
            list(map(str, arguments)),
            cwd=cwd,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, f"{arguments}: {finished.stdout}{finished.stderr}"
        return finished.stdout

    def submit(self, *arguments: object, cwd: Path, **environment: str) -> int:
        """`sbatch` from `cwd`: the job's number."""
        return int(self.command("sbatch", "--parsable", *arguments, cwd=cwd, **environment))

    def jobs(self, job: int) -> list[dict[str, str]]:
        """Slurm's record of a job, one for each task of an array."""
        records = self.command("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", record)) for record in records if record.strip()]

    def job(self, job: int) -> dict[str, str]:
        return self.jobs(job)[0]

    def wait(self, job: int, timeout: float = 900) -> list[str]:
        """The states in which a job, or each task of an array, has ended; requeued ones are waited for."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            states = [record["JobState"] for record in self.jobs(job)]
            if not {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"} & set(states):
                return states
            time.sleep(0.3)
        raise AssertionError(f"job {job} is {states} after {timeout} s")

    def processes(self, job: int, node: str) -> dict[int, str]:
        """Process ids and command lines of the tasks of a job's steps (not its batch script) on one node."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            wanted = {f"SLURM_JOB_ID={job}".encode(), f"SLURMD_NODENAME={node}".encode()}
            in_step = any(entry.startswith(b"SLURM_STEP_ID=") for entry in environment)
            if in_step and wanted <= set(environment):
                found[int(folder.name)] = command
        return found


def missing_programs() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


@contextmanager
def running_cluster(folder: Path, proctrack: str = "linuxproc") -> Iterator[Cluster]:
    """munged, one slurmctld and two slurmd with all their files in `folder`; all are gone at the end.

    `proctrack` is how Slurm keeps track of processes: "linuxproc", or "cgroup", where `FREEZER` is.
    """
    ports = [free_port() for _ in range(3)]
    settings = {
        "host": socket.gethostname(),
        "user": getpass.getuser(),
        "folder": folder,
        "ports": ports,
        "proctrack": proctrack,
    }
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**settings))
    (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={FREEZER.parent}\n")
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    munge = {name: f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")}
    cluster = Cluster(folder)
    with ExitStack() as stack:
        stack.callback(remove_groups)
        daemons = [
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge.values()],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D", "-c", "-N", "n1"],
            ["slurmd", "-D", "-c", "-N", "n2"],
        ]
        for number, daemon in enumerate(daemons):
            stack.enter_context(running(daemon, cluster.environment, folder / f"daemon-{number}.log"))
            if number == 0:
                wait_for(lambda: (folder / "munge.socket").exists(), folder / "daemon-0.log")
        stack.callback(cancel_everything, cluster)
        wait_for(lambda: nodes_idle(cluster), folder / "slurmctld.log")
        yield cluster


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def nodes_idle(cluster: Cluster) -> bool:
    try:
        return cluster.command("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle", "idle"]
    except AssertionError:
        return False


def cancel_everything(cluster: Cluster) -> None:
    """End all jobs while their nodes' daemons still live to see it."""
    subprocess.run(["scancel", f"--user={getpass.getuser()}"], env=cluster.environment, check=False)
    end = time.monotonic() + 40
    while time.monotonic() < end and not nodes_idle(cluster):
        time.sleep(0.3)


def remove_groups() -> None:
    """What slurmd leaves of its control groups."""
    for group in sorted(FREEZER.glob("slurm_n[12]/**/"), reverse=True):
        group.rmdir()


def wait_for(condition, log: Path, timeout: float = 60) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"the cluster does not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
