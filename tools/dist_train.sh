#!/usr/bin/env bash
# bash tools/dist_train.sh CONFIG GPUS [what tools/train.py takes]: one process a GPU (or CPU process).
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py]" >&2; exit 1; }
config=$1 gpus=$2
shift 2
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(( $(nproc) > gpus ? $(nproc) / gpus : 1 ))}"
exec python -m torch.distributed.run --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" --nproc-per-node="$gpus" \
    "$(dirname "$0")/train.py" "$config" "$@" --launcher pytorch
