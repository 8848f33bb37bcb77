"""Print a config as it is used, its shared keys filled in.

    python tools/print_config.py CONFIG [--cfg-options KEY=VALUE ...]

The output is a config file too. A comment names the key that a value was filled in from.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mmseg.apis.command import add_config_arguments, documented_parser, run_command

LINE = 88  # characters, without the indentation


def config_lines(value: Any, sources: Mapping[str, str], path: str, before: str) -> Iterator[str]:
    """Write one key of a config as lines of Python.

    Args:
        sources: where values were filled in from, by path.
        before: text before the value, 'model = '.
    """
    end = '' if before.endswith(' = ') else ','
    source = f'  # from {sources[path]}' if path in sources else ''
    start, items, close = parts_of(value)
    line = f'{before}{compact(value)}{end}{source}'
    filled_in = any(name.startswith(f'{path}.') for name in sources)
    if not items or (len(line) <= LINE and not filled_in):
        yield line
        return
    yield f'{before}{start}{source}'
    for key, name, inner in items:
        for line in config_lines(inner, sources, f'{path}.{key}', name):
            yield f'    {line}'
    yield f'{close}{end}'


def compact(value: Any) -> str:
    """Write a value of a config in one line."""
    start, items, close = parts_of(value)
    inner = ', '.join(f'{name}{compact(item)}' for _, name, item in items)
    return f'{start}{inner}{close}' if items else repr(value)


def parts_of(value: Any) -> tuple[str, list[tuple[Any, str, Any]], str]:
    """dict(a=1) -> 'dict(', [('a', 'a=', 1)], ')'; no items unless dicts are among them"""
    if isinstance(value, dict) and all(str(key).isidentifier() for key in value):
        return 'dict(', [(key, f'{key}=', item) for key, item in value.items()], ')'
    if isinstance(value, dict):
        return '{', [(key, f'{key!r}: ', item) for key, item in value.items()], '}'
    if isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        return '[', [(i, '', item) for i, item in enumerate(value)], ']'
    return '', [], ''


def main() -> None:
    parser = documented_parser(__doc__)
    add_config_arguments(parser)
    args = parser.parse_args()
    from mmseg.engine import resolve_config

    config, sources = resolve_config(args.config, args.cfg_options)
    for key, value in config.to_dict().items():
        print('\n'.join(config_lines(value, sources, key, f'{key} = ')))


if __name__ == '__main__':
    run_command(main)
