"""Read large JSON files element by element, in little memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 2**20  # characters that are read at a time
LONGEST = 2**28  # characters of one element
BLANKS = re.compile(r'[ \t\r\n]*')
decode = json.JSONDecoder().raw_decode


def json_elements(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield (key, element) for each element of each list of the object that a JSON file holds.

    Values of other types are skipped. At most a few elements are in memory.

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
    """A text file that keeps only what is not yet parsed in memory."""

    def __init__(self, file):
        self.file, self.text, self.at = file, '', 0

    def next(self) -> str:
        """Skip blanks -> the next character, which stays"""
        while (at := BLANKS.match(self.text, self.at).end()) == len(self.text):
            self._read_on()
        self.at = at
        return self.text[at]

    def take(self, mark: str):
        """Skip blanks and pass over `mark`; ValueError where another character stands."""
        if self.next() != mark:
            raise ValueError(f'{self.text[self.at : self.at + 20]!r} stands in place of {mark}')
        self.at += 1

    def value(self) -> Any:
        """Parse the next value; read on where it ends with the text, since a number may go on."""
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

    def _read_on(self):
        left = self.text[self.at :]
        more = self.file.read(max(CHUNK, len(left)))
        if not more or len(left) > LONGEST:
            raise ValueError('it is cut short or damaged')
        self.text, self.at = left + more, 0
