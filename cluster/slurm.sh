#!/bin/bash
#SBATCH --job-name=medvie-rl
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --gpus-per-node=8
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@1200
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=medvie-rl-%j.log
#
# Train on a Ray cluster of this allocation: the head on its first node, a worker on each other one.
#   sbatch [--nodes=2 ...] cluster/slurm.sh RUN_DIR CONFIG [key=value ...]
# Submit it from the repository, in a folder that all nodes see, with its environment in .venv (VENV names another one).
# RUN_DIR is begun, or gone on with. SLURM's TERM comes 20 minutes before the time limit (--signal above): the run then
# ends its step, writes a checkpoint, and the job is queued again; so a step must not take longer than that.
set -euo pipefail

readonly GCS_PORT=6379 DASHBOARD=http://127.0.0.1:8265
NODE_PIDS=()
SUBMISSION="medvie-${SLURM_JOB_ID:-}-${SLURM_RESTART_COUNT:-0}"
SUBMIT_PID=""
STOPPED=""

fail() {
    echo "error: $*" >&2
    exit 2
}

# What Ray, its jobs and all actors get. The dashboard listens on loopback; the token is this job's own.
set_environment() {
    local repository=$1
    export PATH="${VENV:-$repository/.venv}/bin:$PATH"
    export RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_OFFLINE=1
    export RAY_JOB_STOP_WAIT_TIME_S=1080 # how long a stopped run may take for its step and checkpoint; else 3 s
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.ray/slurm-$SLURM_JOB_ID.token"
    unset RAY_ADDRESS RAY_AUTH_TOKEN
}

# A token of 256 random bits in a file that only this user can read; the home folder is seen by all nodes.
write_token() {
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    rm -f "$RAY_AUTH_TOKEN_PATH"
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
}

# start_node NODE ARGUMENTS...: Ray on one node, in the background, until this script ends.
start_node() {
    local node=$1
    shift
    srun --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
        --gpus-per-node="$SLURM_GPUS_PER_NODE" --kill-on-bad-exit=1 \
        ray start --block --disable-usage-stats --num-cpus="$SLURM_CPUS_PER_TASK" \
        --temp-dir="/tmp/ray-$SLURM_JOB_ID" "$@" &
    NODE_PIDS+=($!)
}

start_cluster() {
    local names nodes address
    names=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    mapfile -t nodes <<<"$names"
    address=${HEAD_ADDRESS:-$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address)}
    address=${address%% *}
    [[ $address != 127.* || ${#nodes[@]} -eq 1 ]] ||
        fail "${nodes[0]} calls itself $address, where no other node finds it: set HEAD_ADDRESS"
    start_node "${nodes[0]}" --head --node-ip-address="$address" --port="$GCS_PORT" --dashboard-host=127.0.0.1 \
        --dashboard-port="${DASHBOARD##*:}"
    wait_for_head
    for node in "${nodes[@]:1}"; do
        start_node "$node" --address="$address:$GCS_PORT"
    done
}

wait_for_head() {
    local deadline=$((SECONDS + ${HEAD_SECONDS:-300}))
    until ray job list --address "$DASHBOARD" >/dev/null 2>&1; do
        kill -0 "${NODE_PIDS[0]}" 2>/dev/null || fail "the head node has ended; its messages are above"
        ((SECONDS < deadline)) || fail "the head node does not answer at $DASHBOARD"
        sleep 2
    done
}

# At SLURM's signal: stop the job and wait until it has ended, its checkpoint included.
stop_job() {
    STOPPED=1
    echo "SIGTERM: the run may end its step and write a checkpoint"
    until ray job stop --address "$DASHBOARD" "$SUBMISSION"; do # fails while the job is not submitted yet
        kill -0 "$SUBMIT_PID" 2>/dev/null || break
        sleep 1
    done
}

# run_job REPOSITORY RUN_DIR CONFIG OVERRIDES...: submit, show the log, return 0 or, if the job failed, 1.
run_job() {
    local repository=$1 run_dir=$2 config=$3 code=0
    shift 3
    ray job submit --address "$DASHBOARD" --submission-id "$SUBMISSION" --working-dir "$repository" -- \
        exec python -m medvie_rl train --config "$config" --resume-if-exists "$run_dir" "$@" &
    SUBMIT_PID=$!
    trap stop_job TERM
    wait "$SUBMIT_PID" || code=$?
    [[ -z $STOPPED ]] || wait "$SUBMIT_PID" || true # the signal had ended the wait, not the job
    return "$code"
}

end_cluster() {
    trap '' TERM
    ((${#NODE_PIDS[@]} == 0)) || kill "${NODE_PIDS[@]}" 2>/dev/null || true
    wait || true
    rm -f "$RAY_AUTH_TOKEN_PATH"
}

main() {
    (($# >= 2)) || fail "expected RUN_DIR CONFIG [key=value ...]"
    [[ $1 == /* ]] || fail "RUN_DIR must be an absolute path that all nodes see, got '$1'"
    local repository=${SLURM_SUBMIT_DIR:?this script is run by sbatch} code=0
    [[ -f $repository/$2 ]] || fail "no configuration file $2 in $repository"
    set_environment "$repository"
    write_token
    trap end_cluster EXIT
    start_cluster
    run_job "$repository" "$@" || code=$?
    if [[ -n $STOPPED ]]; then
        scontrol requeue "$SLURM_JOB_ID"
        return 0
    fi
    return "$code"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
