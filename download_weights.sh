#!/usr/bin/env bash
# Fetches weights into pretrain/; options: python tools/download_weights.py --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ] && [ -x .venv/bin/python ]; then
    source .venv/bin/activate
fi
exec python tools/download_weights.py "$@"
