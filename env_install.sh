#!/usr/bin/env bash
# Installs the project and its tests into the active virtual environment, or into .venv made here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    python=$(command -v python3 || true)
    [ -n "$python" ] || { echo 'error: no python3 found; install Python 3.10 or newer' >&2; exit 1; }
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "error: $("$python" --version) is too old; this project needs Python 3.10 or newer" >&2; exit 1; }
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    source .venv/bin/activate
    next='source .venv/bin/activate && '
fi
python -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "error: $(python --version) is too old; this project needs Python 3.10 or newer" >&2; exit 1; }

python -m pip install --quiet --editable '.[tests]'

python - <<'PY'
import sys

import torch
import torchvision
from mmengine.device import get_device

import mmseg

print(f'Python {sys.version.split()[0]}, torch {torch.__version__}, torchvision '
      f'{torchvision.__version__}, mmseg {mmseg.__version__}; device: {get_device()}')
PY
echo "next: ${next:-}python -m pytest"
