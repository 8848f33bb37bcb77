#!/usr/bin/env bash
# bash tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py]: one process a GPU, or on the CPU.
exec bash "$(dirname "$0")/dist_run.sh" train.py "$@"
