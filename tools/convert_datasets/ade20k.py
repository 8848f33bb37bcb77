"""ADE20K, 150 classes: masks in this project's values, split lists, and a check of it all.

python tools/convert_datasets/ade20k.py [data/ade/ADEChallengeData2016] [--verify]
"""

import _options  # first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.preparation.releases import prepare


def main():
    args = _options.parser_of(__doc__, 'data/ade/ADEChallengeData2016').parse_args()
    prepare('ade20k', args.root, **_options.settings(args))


if __name__ == '__main__':
    run_command(main)
