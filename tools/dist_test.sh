#!/usr/bin/env bash
# bash tools/dist_test.sh CONFIG GPUS [ARGUMENTS OF tools/test.py]: one process a GPU, or on the CPU.
exec bash "$(dirname "$0")/dist_run.sh" test.py "$@"
