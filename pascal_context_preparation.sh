#!/usr/bin/env bash
# Prepares Pascal Context below data/VOCdevkit/VOC2010, fetching what is missing, and checks it;
# options: python tools/convert_datasets/pascal_context.py --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ] && [ -x .venv/bin/python ]; then
    source .venv/bin/activate
fi
[ $# -gt 0 ] || set -- --download
exec python tools/convert_datasets/pascal_context.py "$@"
