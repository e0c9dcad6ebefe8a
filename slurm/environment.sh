# What your cluster needs. This is the one place to say it: the batch scripts, slurm/submit.sh and the submit.sh of a
# study read this file.
# ------------------------------------------------------------------------------------------------------------
# What slurm/submit.sh asks Slurm for. Left empty, nothing is asked for; options given to slurm/submit.sh win.
PARTITION=''     # `sinfo` lists them
ACCOUNT=''       # `sacctmgr show associations user=$USER` lists yours
GPUS_PER_NODE='' # 4, or with their type a100:4
CPUS_PER_TASK='' # of a node: the loader workers of all its GPUs and a core for each GPU
TIME=''          # of a job, which is shorter than a training: it goes back to the queue and continues. 24:00:00 if empty
CPU_PARTITION='' # of jobs without a GPU: preparing micrographs, a study's report
CPU_CPUS=''      # 16 prepare micrographs 16 times as fast as the one that Slurm gives by itself
CPU_TIME=''      # 24:00:00 if empty
MORE=() # anything else, as in (--qos=long --exclusive)

# What stands before `python` on the nodes, for example (apptainer exec --nv --bind /project /project/sempre.sif)
CONTAINER=()
# export NCCL_SOCKET_IFNAME=ib0        # the network between the nodes, where NCCL guesses wrong
# export PROCESSES_PER_NODE=4          # default: one for each GPU of the node, or 1

if [[ ${SLURM_JOB_ID:-} ]]; then # Python, where a job runs
    set +eu                      # modules and conda are not written for strict shells
    # module purge && module load python/3.11 cuda
    # conda activate sempre
    if [[ -f $root/.venv/bin/activate ]]; then
        source "$root/.venv/bin/activate"
    fi
    set -eu
fi
# ------------------------------------------------------------------------------------------------------------
export GPUS_PER_NODE
