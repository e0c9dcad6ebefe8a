# Run a recipe on all nodes of the job and keep it running: `restartable <recipe> <config> [key=value…]`.
# Read by the batch scripts beside it, which have set `root`. Every end of the step has one of four meanings:
#
#   0        done
#   2        your mistake: the message is in the log, and starting again would not help
#   75       the time limit is near (or a signal came): the step has saved, the job goes back to the queue
#   other    a crash, a killed process, a lost node: the job goes back to the queue too, and continues from its last
#            checkpoint; after MAX_RESTARTS such ends with no new checkpoint in between it gives up
#
# Slurm's own ways to end a job (`scontrol requeue`, preemption, a node that fails) put it back without our help.

restartable() {
    local head step code signalled stopper=''
    head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    # The address Slurm itself uses: a node's name need not resolve.
    MASTER_ADDR=$(scontrol show node "$head" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
    # Another port for each job and each start, below those that systems hand out by themselves.
    MASTER_PORT=$((20000 + (SLURM_JOB_ID * 17 + ${SLURM_RESTART_COUNT:-0}) % 10000))
    export MASTER_ADDR MASTER_PORT
    export TQDM_MININTERVAL=${TQDM_MININTERVAL:-60} # seconds between two lines of the progress bar
    # Since Slurm 22.05 srun takes no notice of the job's --cpus-per-task, and a step of one core would share it among all.
    if [[ ${SLURM_CPUS_PER_TASK:-} ]]; then
        export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    fi
    export SEMPRE_RUN_FILE=$PWD/$SLURM_JOB_NAME-$SLURM_JOB_ID.folder # where the recipe tells its run's folder
    echo "$(date '+%F %T') job $SLURM_JOB_ID, start ${SLURM_RESTART_COUNT:-0}, on $SLURM_JOB_NODELIST: $*"

    trap 'signalled=yes; stop_in_time & stopper=$!' USR1
    # When one node fails the others are told to end, and 30 s later no longer waited for.
    srun --kill-on-bad-exit=1 --wait=30 "${CONTAINER[@]}" python "$root/slurm/launch.py" "$@" &
    step=$!
    while true; do # A signal interrupts `wait`: wait again.
        signalled='' code=0
        wait "$step" || code=$?
        [[ $signalled ]] || break
    done
    trap '' USR1
    [[ $stopper ]] && kill "$stopper" 2>/dev/null || true

    case $code in
    0) rm -f "$(crash_file)" "$SEMPRE_RUN_FILE" ;;
    2) rm -f "$(crash_file)" "$SEMPRE_RUN_FILE" && echo "not started again: the message above says what to mend" ;;
    75) requeue "stopped and saved" ;;
    *) count_crash "$@" && requeue "crashed with code $code" ;;
    esac
    return "$code"
}

stop_in_time() { # The signal comes 120 s before the limit; processes that are only starting do not hear it yet.
    echo "$(date '+%F %T') the time limit is near"
    for _ in {1..10}; do
        scancel --signal=USR1 "$SLURM_JOB_ID"
        sleep 10
    done
    requeue "did not stop within 100 s"
}

requeue() {
    echo "$(date '+%F %T') $1: job $SLURM_JOB_ID goes back to the queue"
    if ! scontrol requeue "$SLURM_JOB_ID"; then
        echo "it did not go back, for Slurm refused: submit the same command again, which continues from the last checkpoint"
    fi
}

crash_file() { echo "$SLURM_JOB_NAME-$SLURM_JOB_ID.crashes"; }

count_crash() { # The file holds the crashes in a row and is as old as the last one; false when there were too many.
    local file crashes=0 folder='' name newer=''
    file=$(crash_file)
    name=$(printf '%s\n' "$@" | sed -n 's/^name=//p' | tail -n 1)
    if [[ -s $SEMPRE_RUN_FILE ]]; then # The run has told its folder, whatever its name came from.
        folder=$(<"$SEMPRE_RUN_FILE")
    elif [[ $name ]]; then
        folder=runs/$name
    fi
    # Without a folder no checkpoint is known to be this run's: another run's would count as progress for ever.
    if [[ -f $file ]]; then
        [[ $folder ]] && newer=$(find "$folder" -path '*/checkpoints/last/*' -newer "$file" -print -quit 2>/dev/null || true)
        [[ $newer ]] || crashes=$(<"$file")
    fi
    echo $((++crashes)) >"$file"
    if ((crashes > ${MAX_RESTARTS:-5})); then
        rm -f "$file" "$SEMPRE_RUN_FILE"
        echo "gave up after $crashes crashes without a new checkpoint: once mended, the same sbatch command goes on"
        return 1
    fi
}
