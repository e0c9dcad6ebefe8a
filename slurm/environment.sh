# What your cluster needs before Python can run: this is the one place to put it. All files in slurm/ read it.
# ------------------------------------------------------------------------------------------------------------
set +eu # modules and conda are not written for strict shells
# module purge && module load python/3.11 cuda
# conda activate sempre
# export NCCL_SOCKET_IFNAME=ib0        # the network between the nodes, where NCCL guesses wrong
# export PROCESSES_PER_NODE=4          # default: one for each GPU of the node, or 1
if [[ -f $root/.venv/bin/activate ]]; then
    source "$root/.venv/bin/activate"
fi
set -eu
# ------------------------------------------------------------------------------------------------------------
