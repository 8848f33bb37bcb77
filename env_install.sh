#!/usr/bin/env bash
# Installs the project and its tests into the active virtual environment, or into .venv made here.
# --cpu takes PyTorch's CPU wheels (smaller) where its own index can be reached.
# --locked takes the versions of requirements.lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cpu=
versions=()
for option in "$@"; do
    case $option in
        --cpu) cpu=1 ;;
        --locked) versions=(--constraint requirements.lock) ;;
        *) echo "error: unknown option $option; there are --cpu and --locked" >&2; exit 1 ;;
    esac
done

check_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "error: $("$1" --version) is too old; this project needs Python 3.10 or newer" >&2; exit 1; }
}

next=
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    python=$(command -v python3 || true)
    [ -n "$python" ] || { echo 'error: no python3 found; install Python 3.10 or newer' >&2; exit 1; }
    check_python "$python"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    source .venv/bin/activate
    next='source .venv/bin/activate && '
fi
check_python python

if [ -n "$cpu" ] && ! python -c 'import torch, torchvision' 2>/dev/null; then
    index=https://download.pytorch.org/whl/cpu
    if python -c "import urllib.request as u; u.urlopen('$index', timeout=10)" 2>/dev/null; then
        python -m pip install --quiet "${versions[@]}" torch torchvision --index-url "$index"
    else
        echo "$index cannot be reached; the usual wheels are taken, which run on CPUs too" >&2
    fi
fi
python -m pip install --quiet "${versions[@]}" --editable '.[tests]'
python tools/check_install.py
echo "next: ${next}python tools/miniature.py"
