#!/usr/bin/python3
"""Writes worker/vocabulary/letters.def: the classes of characters that the tokenizers' first step tells apart.
letters.py            prints the table, from Python's unicodedata
letters.py --check    exits 1 when letters.def differs; says so and exits 0 when this Python knows another Unicode"""

import sys
import unicodedata
from pathlib import Path

TABLE = Path(__file__).with_suffix(".def")
SPACES = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F,
          0x3000}
CLASSES = {"Lu": "UPPER", "Lt": "UPPER", "Ll": "LOWER", "Lm": "LETTER", "Lo": "LETTER"}
VERSION = f"/* Unicode {unicodedata.unidata_version}; made by letters.py. Each class holds up to the next entry. */\n"


def class_of(point):
    if point in (0x0A, 0x0D):
        return "NEWLINE"
    if point in SPACES:
        return "SPACE"
    category = unicodedata.category(chr(point))
    return CLASSES.get(category, {"M": "MARK", "N": "NUMBER"}.get(category[0], "OTHER"))


def entries():
    previous = None
    for point in range(sys.maxunicode + 1):
        found = class_of(point)
        if found != previous:
            yield f"LETTERS(0x{point:X}, {found})"
            previous = found


def table():
    lines, line = [], ""
    for entry in entries():
        if line and len(line) + 1 + len(entry) > 120:
            lines.append(line)
            line = ""
        line = f"{line} {entry}" if line else entry
    return VERSION + "\n".join(lines + [line]) + "\n"


def main():
    if sys.argv[1:] != ["--check"]:
        sys.stdout.write(table())
        return 0
    stored = TABLE.read_text()
    if not stored.startswith(VERSION):
        print(f"{TABLE.name} is of another Unicode version than this Python's {unicodedata.unidata_version}: not compared")
        return 0
    if stored != table():
        print(f"{TABLE.name} is not what letters.py makes")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
