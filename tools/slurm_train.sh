#!/usr/bin/env bash
# bash tools/slurm_train.sh PARTITION JOB CONFIG GPUS [ARGUMENTS OF tools/train.py]
# GPUS over all nodes, GPUS_PER_NODE (8) at most on each; SRUN_ARGS goes to srun.
set -euo pipefail
[ $# -ge 4 ] || {
    echo 'usage: bash tools/slurm_train.sh PARTITION JOB CONFIG GPUS [ARGUMENTS OF tools/train.py]' >&2
    exit 1
}
partition=$1 job=$2 config=$3 gpus=$4
shift 4
per_node=${GPUS_PER_NODE:-8}
per_node=$((gpus < per_node ? gpus : per_node))
export MASTER_PORT="${PORT:-29500}"
# The first node of the job hosts the meeting point; only there srun knows its name.
# shellcheck disable=SC2016,SC2086
exec srun --partition="$partition" --job-name="$job" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --gres="gpu:$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    bash -c 'export MASTER_ADDR="${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_NODELIST" | head -n1)}"
             exec python -u "$@"' _ "$(dirname "$0")/train.py" "$config" "$@" --launcher slurm
