#!/usr/bin/env bash
# What dist_train.sh and dist_test.sh share: TOOL CONFIG GPUS [ARGUMENTS OF THE TOOL].
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: bash tools/dist_${1%.py}.sh CONFIG GPUS [ARGUMENTS OF tools/$1]" >&2; exit 1; }
tool=$1 config=$2 gpus=$3
shift 3
cores=$(nproc)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > gpus ? cores / gpus : 1))}"
exec python -m torch.distributed.run --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" --nproc-per-node="$gpus" \
    "$(dirname "$0")/$tool" "$config" "$@" --launcher pytorch
