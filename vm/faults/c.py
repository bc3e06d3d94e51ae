# SPDX-License-Identifier: GPL-2.0-only
"""C as far as an edit needs it: what is code, where a function is, where a text stands in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Comments, and strings and characters, which may hold braces and semicolons of their own.
_NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*',
    re.S | re.M,
)
_FIRST_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(\s*(\w*)")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a text: offsets, the end not included."""

    start: int
    end: int

    def holds(self, other: Span) -> bool:
        """Return whether *other* lies in it, or is the same."""
        return self.start <= other.start and other.end <= self.end

    def meets(self, other: Span) -> bool:
        """Return whether they have a character in common."""
        return self.start < other.end and other.start < self.end


def masked(text: str) -> str:
    """Return *text* with blanks in place of comments, strings and directives, line by line."""
    return _NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def closing(code: str, at: int) -> int:
    """Return the offset of the bracket that closes the one at *at* in masked text.

    :raises ValueError: none does.
    """
    opening, depth = code[at], 0
    for match in re.compile(f"[{re.escape(opening + _CLOSING[opening])}]").finditer(code, at):
        depth += 1 if match[0] == opening else -1
        if not depth:
            return match.start()
    raise ValueError(f"a {opening} is never closed")


def functions(code: str) -> dict[str, Span]:
    """Return the functions in masked text: name -> body, braces included.

    In the kernel's style, a body begins and ends with a brace in the first column. A system call
    has the name that its macro is given.
    """
    found = {}
    for match in re.finditer(r"^\{", code, re.M):
        head = re.split(r"[;}]|\n\s*\n", code[: match.start()])[-1]
        call = _FIRST_CALL.search(head)
        end = code.find("\n}", match.start())
        if call is None or end < 0:
            continue
        name = call[2] if call[1].startswith("SYSCALL_DEFINE") else call[1]
        found[name] = Span(match.start(), end + 2)
    return found


def places(text: str, within: Span, wanted: str) -> list[Span]:
    """Return where *wanted* stands in the part *within* of *text*, however it is broken into
    lines there."""
    pattern = r"\s+".join(re.escape(word) for word in wanted.split())
    pattern = rf"(?<!\w){pattern}" if wanted[:1].isidentifier() else pattern
    pattern = rf"{pattern}(?!\w)" if wanted[-1:].isidentifier() else pattern
    region = text[: within.end]
    return [Span(*match.span()) for match in re.compile(pattern).finditer(region, within.start)]


def is_statement(text: str) -> bool:
    """Return whether *text*, code of a function, is one or more statements, not an expression."""
    return text.rstrip().endswith((";", "}"))


def is_whole(text: str) -> bool:
    """Return whether each bracket of *text* is closed in it."""
    open_ones: list[str] = []
    for char in masked(text):
        if char in _CLOSING:
            open_ones.append(_CLOSING[char])
        elif char in _CLOSING.values() and (not open_ones or open_ones.pop() != char):
            return False
    return not open_ones
