#!/bin/bash
# `sbatch` with what slurm/environment.sh says of your cluster; all else is as for sbatch:
#
#   slurm/submit.sh --nodes 4 slurm/pretrain.sbatch pretrain/fcmae.py configs/fcmae/pico.yaml store=store.h5 name=pico
set -euo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
source "$root/slurm/environment.sh"
if [[ " $* " != *.sbatch* ]]; then
    echo "error: no batch script: slurm/submit.sh [options of sbatch] slurm/pretrain.sbatch pretrain/fcmae.py …" >&2
    exit 2
fi
asked=()
ask() { [[ -z $2 ]] || asked+=("--$1=$2"); }
ask account "$ACCOUNT"
if [[ " $* " == *cpu.sbatch* ]]; then
    ask partition "${CPU_PARTITION:-$PARTITION}"
    ask cpus-per-task "$CPU_CPUS"
    ask time "$CPU_TIME"
else
    ask partition "$PARTITION"
    ask gpus-per-node "$GPUS_PER_NODE"
    ask cpus-per-task "$CPUS_PER_TASK"
    ask time "$TIME"
fi
exec sbatch "${asked[@]}" "${MORE[@]}" "$@"
