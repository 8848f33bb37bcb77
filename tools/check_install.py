"""Print the versions and the device; report an unusable installation in one line."""

import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> None:
    spec = find_spec('mmseg')
    package = Path(spec.origin or '').resolve().parent if spec else None
    if package != CHECKOUT / 'mmseg':
        cure = f'python -m pip install -e {CHECKOUT}'
        if package:
            cure = f'python -m pip uninstall mmsegmentation; {cure}'
        stop(f'Python imports {package or "no"} mmseg in place of {CHECKOUT}/mmseg; {cure}')
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        stop(
            f'torch {installed("torch")} and torchvision {installed("torchvision")} do not '
            f'work together ({reason}); python -m pip install --force-reinstall torch torchvision'
        )
    from mmengine.device import get_device

    import mmseg

    print(
        f'Python {sys.version.split()[0]}, torch {torch.__version__}, torchvision '
        f'{torchvision.__version__}, mmseg {mmseg.__version__}; device: {get_device()}'
    )


def stop(message: str) -> None:
    print(f'error: {message}', file=sys.stderr)
    sys.exit(1)


def installed(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return '(missing)'


if __name__ == '__main__':
    main()
