"""What pretraining takes on how many GPUs: time (computing, gradients over the network, crops from storage), memory."""

from dataclasses import dataclass
from math import ceil, log2

CROP_BYTES = 25 * 160 * 160  # a 640 px crop touches 5 x 5 of a store's chunks on average
GRADIENT_BYTES = 4
STATE_BYTES = 4 * 4  # of a parameter's weight, gradient and AdamW's two moments, all in float32
GATHERED_BYTES = 2 * 4  # of a parameter's weight and gradient


@dataclass(frozen=True)
class Machine:
    """What was measured, or is promised, of a cluster."""

    images_a_second: float  # forward, backward and optimizer step on one GPU
    network_bytes_a_second: float  # of an all-reduce, between the slowest pair of neighbours in the ring
    network_latency: float  # s, of one message
    storage_bytes_a_second: float  # of all nodes together
    loader_crops_a_second: float  # of the loader workers that belong to one GPU
    step_overhead: float = 0.0  # s a step that does not depend on the batch
    overlap: float = 2 / 3  # share of the compute that can hide communication: the backward pass, on a GPU


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step and what they go to; `total` is the slower of computing and feeding."""

    compute: float
    communication: float  # the part that compute does not hide
    feeding: float

    @property
    def total(self) -> float:
        return max(self.compute + self.communication, self.feeding)

    @property
    def bound(self) -> str:
        """What to buy more of."""
        if self.feeding > self.compute + self.communication:
            return "storage"
        return "network" if self.communication > self.compute else "compute"


def all_reduce_seconds(machine: Machine, parameters: int, gpus: int) -> float:
    """A bandwidth-optimal all-reduce of the gradients: each GPU sends and receives 2 (n - 1) / n of their bytes.

    Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009; latency grows with
    the depth of a tree, which is what NCCL takes where the ring's would dominate.
    """
    if gpus == 1:
        return 0.0
    transfer = 2 * (gpus - 1) / gpus * parameters * GRADIENT_BYTES / machine.network_bytes_a_second
    return transfer + 2 * ceil(log2(gpus)) * machine.network_latency


def step_time(machine: Machine, parameters: int, gpus: int, batch: int) -> StepTime:
    """The time of one step with a global `batch` of crops."""
    share = batch / gpus
    compute = machine.step_overhead + share / machine.images_a_second
    communication = all_reduce_seconds(machine, parameters, gpus)
    feeding = max(batch * CROP_BYTES / machine.storage_bytes_a_second, share / machine.loader_crops_a_second)
    return StepTime(compute, max(0.0, communication - machine.overlap * compute), feeding)


def state_bytes(parameters: int, gathered: int = 0, gpus: int = 1) -> float:
    """What one GPU holds of weights, gradients and AdamW's moments; neither activations nor DDP's buckets.

    Args:
        gathered: with sharding, the parameters that are whole at once: those outside of blocks and the largest block's.
            While a block is computed the next one may be gathered, too, which is not counted.
        gpus: with sharding, how many share the state; else 1, for each holds all of it.
    """
    return parameters * STATE_BYTES / gpus + gathered * GATHERED_BYTES


def epoch_seconds(machine: Machine, parameters: int, gpus: int, batch: int, images: int) -> float:
    """The time of one pass over `images` training images, one crop each, in batches of `batch`."""
    return images // batch * step_time(machine, parameters, gpus, batch).total
