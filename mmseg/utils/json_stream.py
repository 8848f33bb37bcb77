"""Read large JSON files element by element, with little memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

CHUNK = 2**20  # characters per read
LONGEST = 2**28  # characters of one element
BLANKS = re.compile(r'[ \t\r\n]*')
decode = json.JSONDecoder().raw_decode


def json_elements(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield (key, element) for each element of each list of the object that a JSON file holds.

    Values of other types are skipped. Only a few elements are in memory.

    Raises:
        ValueError, RecursionError: the file is cut short, or holds no object.
    """
    with open(path, encoding='utf-8') as file:
        text = _Text(file)
        text.take('{')
        while text.next() != '}':
            key = text.value()
            text.take(':')
            if text.next() == '[':
                text.take('[')
                while text.next() != ']':
                    yield key, text.value()
                    if text.next() != ']':
                        text.take(',')
                text.take(']')
            else:
                text.value()
            if text.next() != '}':
                text.take(',')


class _Text:
    """A text file of which only what is not parsed yet is in memory."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.at = file, '', 0

    def next(self) -> str:
        """Skip blanks and return the next character, without consuming it."""
        while True:
            blanks = BLANKS.match(self.text, self.at)
            self.at = blanks.end() if blanks else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            self._read_on()

    def take(self, mark: str) -> None:
        """Skip blanks and consume `mark`; raise a ValueError if another character comes."""
        if self.next() != mark:
            raise ValueError(f'{self.text[self.at : self.at + 20]!r} where {mark} is expected')
        self.at += 1

    def value(self) -> Any:
        """Parse the next value. If it ends with the text, read on: a number may continue."""
        self.next()
        while True:
            try:
                value, end = decode(self.text, self.at)
            except json.JSONDecodeError:
                end = len(self.text)
            if end < len(self.text):
                self.at = end
                return value
            self._read_on()

    def _read_on(self) -> None:
        left = self.text[self.at :]
        more = self.file.read(max(CHUNK, len(left)))
        if not more or len(left) > LONGEST:
            raise ValueError('it is cut short or damaged')
        self.text, self.at = left + more, 0
