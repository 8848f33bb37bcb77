"""The config as it is used: python tools/print_config.py CONFIG [--cfg-options KEY=VALUE ...]"""

import argparse

from mmseg.apis.command import add_config_arguments, run_command


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    args = parser.parse_args()
    from mmseg.engine import load_config

    print(load_config(args.config, args.cfg_options).pretty_text)


if __name__ == '__main__':
    run_command(main)
