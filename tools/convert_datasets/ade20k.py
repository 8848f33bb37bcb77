"""ADE20K, 150 classes: masks in this project's values, split lists, and a check of it all.

python tools/convert_datasets/ade20k.py [data/ade/ADEChallengeData2016] [--verify]
"""

from _options import prepare_release

from mmseg.apis.command import run_command


def main() -> None:
    prepare_release(__doc__, 'ade20k', 'data/ade/ADEChallengeData2016')


if __name__ == '__main__':
    run_command(main)
