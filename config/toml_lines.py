"""Where each key of a TOML text stands, so that a mistake can be reported with its line.

tomllib gives values without positions. This reads the text a second time for positions only, and expects a
text that tomllib has accepted (https://toml.io/en/v1.0.0).
"""

import re
import tomllib

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
# Up to two quotes may stand directly before the closing three.
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL)
_PLAIN_VALUE = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every table, key and array element, by its path such as ``("routes", 0, "name")``."""
    return _Reader(text).read()


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Line of `path`, or of the nearest table around it when the key is absent; 1 for the whole file."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Reader:
    """One pass over the text; `lines` collects what was met."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.table_counts: dict[KeyPath, int] = {}

    def read(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip_blank()
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self._header("[[", "]]")
            elif self.text.startswith("[", self.at):
                table = self._header("[", "]")
            else:
                self._key_and_value(table)
            self._skip_blank()
        return self.lines

    def _header(self, opening: str, closing: str) -> KeyPath:
        line = self._line()
        self.at += len(opening)
        keys = self._dotted_key()
        self.at += len(closing)
        path: KeyPath = ()
        for key in keys[:-1]:
            path = self._inside_array((*path, key), line)
        path = (*path, keys[-1])
        self.lines.setdefault(path, line)
        if opening == "[[":
            self.table_counts[path] = self.table_counts.get(path, 0) + 1
            path = (*path, self.table_counts[path] - 1)
            self.lines[path] = line
        return path

    def _inside_array(self, path: KeyPath, line: int) -> KeyPath:
        """A header that names an array of tables means its last table."""
        self.lines.setdefault(path, line)
        count = self.table_counts.get(path)
        return path if count is None else (*path, count - 1)

    def _key_and_value(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._dotted_key():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.at += 1  # =
        self._skip_blank()
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if self.text.startswith("[", self.at):
            self._array(path)
        elif self.text.startswith("{", self.at):
            self._inline_table(path)
        else:
            self._scalar()

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        self._skip_separators()
        while self.text[self.at] != "]":
            self.lines[(*path, index)] = self._line()
            self._value((*path, index))
            index += 1
            self._skip_separators()
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        self._skip_separators()
        while self.text[self.at] != "}":
            self._key_and_value(path)
            self._skip_separators()
        self.at += 1

    def _scalar(self) -> None:
        for pattern in (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL, _PLAIN_VALUE):
            if self._take(pattern) is not None:
                return
        raise ValueError(f"no TOML value on line {self._line()}")

    def _dotted_key(self) -> list[str]:
        keys = [self._key()]
        while self.text.startswith(".", self.at):
            self.at += 1
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        self._skip_blank()
        for pattern in (_BARE_KEY, _BASIC, _LITERAL):
            taken = self._take(pattern)
            if taken is not None:
                self._skip_blank()
                return taken if pattern is _BARE_KEY else _unquoted(taken)
        raise ValueError(f"no TOML key on line {self._line()}")

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def _skip_blank(self) -> None:
        self._take(_BLANK)

    def _skip_separators(self) -> None:
        self._skip_blank()
        while self.text.startswith(",", self.at):
            self.at += 1
            self._skip_blank()

    def _line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1


def _unquoted(key: str) -> str:
    return str(tomllib.loads(f"key = {key}")["key"])
