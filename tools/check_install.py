"""Print the versions that matter and the device found; one line on what does not fit together."""

import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main():
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        print(
            f'error: torch {installed("torch")} and torchvision {installed("torchvision")} do not '
            f'work together ({reason}); python -m pip install --force-reinstall torch torchvision',
            file=sys.stderr,
        )
        sys.exit(1)
    from mmengine.device import get_device

    import mmseg

    print(
        f'Python {sys.version.split()[0]}, torch {torch.__version__}, torchvision '
        f'{torchvision.__version__}, mmseg {mmseg.__version__}; device: {get_device()}'
    )


def installed(name):
    try:
        return version(name)
    except ImportError:
        return '(missing)'


if __name__ == '__main__':
    main()
