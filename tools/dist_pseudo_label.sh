#!/usr/bin/env bash
# bash tools/dist_pseudo_label.sh CONFIG GPUS PHOTOS --out LABELS: one process a GPU, or on the CPU.
exec bash "$(dirname "$0")/dist_run.sh" pseudo_label.py "$@"
