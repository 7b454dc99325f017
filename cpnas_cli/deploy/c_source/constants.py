"""Constants as C text: arrays, structures and strings, of which nothing can become code."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

_TYPES = {"uint32": "uint32_t", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "float32": "float"}
_LINE = 110
_LONGEST_STRING = 4000  # C99 promises 4095 characters
# What would break a line or command a terminal, and lone surrogates, which have no bytes
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass
class Constants:
    """Growing text of constants, in the order in which the network reads them.

    Attributes:
      num_bytes: of the arrays.
    """

    parts: list[str] = field(default_factory=list)
    num_bytes: int = 0

    def array(self, name: str, values: np.ndarray) -> str:
        """Its name, or the one of an array of the same values before it."""
        kind = _TYPES[values.dtype.name]
        numbers = [_number(value) for value in values.ravel()]
        self.num_bytes += values.nbytes
        self.parts.append(f"static const {kind} {name}[{len(numbers)}] = {{\n{_lines(numbers)}\n}};\n")
        return name

    def struct(self, kind: str, name: str, fields: Mapping[str, object]) -> str:
        """A reference to a structure."""
        self.parts.append(f"static const {kind} {name} = {members(fields)};\n")
        return f"&{name}"

    def structs(self, kind: str, name: str, rows: Iterable[Mapping[str, object]]) -> str:
        """An array of structures."""
        texts = [members(row) for row in rows]
        self.parts.append(f"static const {kind} {name}[{len(texts)}] = {{\n    " + ",\n    ".join(texts) + "\n};\n")
        return name


def string(text: str) -> str:
    """A C string of the text's UTF-8, as `cpnas predict` prints it: what cannot be printed is spelled out.

    Every byte but plain letters, digits and harmless signs is an octal escape of three digits, so that nothing ends the
    string, begins a trigraph or a comment, or runs into what follows.
    """
    return '"' + "".join(_character(byte) for byte in _utf8(text)) + '"'


def strings(name: str, texts: Iterable[str]) -> str:
    """An array of pointers to strings; one that is longer than C99 allows is an array of numbers."""
    long, members = list[str](), list[str]()
    for index, text in enumerate(texts):
        data = _utf8(text)
        if len(data) > _LONGEST_STRING:
            own = f"{name}_{index}"
            numbers = [str(byte - 256 if byte > 127 else byte) for byte in (*data, 0)]
            long.append(f"static const signed char {own}[{len(numbers)}] = {{\n{_lines(numbers)}\n}};\n")
            members.append(f"(const char *){own}")
        else:
            members.append(string(text))
    return "".join(long) + f"const char *const {name}[{len(members)}] = {{\n    " + ",\n    ".join(members) + "\n};\n"


def _utf8(text: str) -> bytes:
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text).encode()


def _character(byte: int) -> str:
    character = chr(byte)
    return character if byte < 128 and (character.isalnum() or character in " _-.,:;+=()[]") else f"\\{byte:03o}"


def _number(value: np.generic) -> str:
    if value.dtype == np.float32:
        return literal(value)
    return f"0x{int(value):x}u" if value.dtype == np.uint32 else str(int(value))


def literal(value: np.generic) -> str:
    """Of a float."""
    text = f"{value.item():.9g}"  # nine digits tell a float32 from all others
    return text + ("f" if "." in text or "e" in text else ".0f")


def members(fields: Mapping[str, object]) -> str:
    """Of a structure, by name."""
    return "{" + ", ".join(f".{name} = {int(v) if isinstance(v, bool) else v}" for name, v in fields.items()) + "}"


def _lines(numbers: list[str]) -> str:
    lines, line = list[str](), "   "
    for number in numbers:
        if len(line) + len(number) + 2 > _LINE:
            lines.append(line)
            line = "   "
        line += f" {number},"
    return "\n".join([*lines, line])
