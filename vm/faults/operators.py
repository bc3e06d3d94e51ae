# SPDX-License-Identifier: GPL-2.0-only
"""Mechanical faults: what each operator makes of a function of the kernel's.

An id is file, function, operator and the text that is changed, and a number only where the same
text is there more than once: it stays as it is when something else in the function changes.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vm.faults.c import Span, closing

#: Statements that are kept: locks (a mutant would hang, and lockdep is for them), what only tells
#: or checks, and what declares.
_KEPT = re.compile(
    r"lock|guard|rcu|seq(?:begin|retry)|WARN|BUG|^pr_|printk|^_*[A-Z0-9_]+$|barrier|^smp_|might_"
    r"|assert|^init_|^INIT_|^if$|^for$|^while$|^switch$|^return$|for_each|^sizeof$|schedule"
)
_CALL = re.compile(r"(?<=[;{}):])\s*(?:else\s+)?(?P<name>[a-z_]\w*)\s*(?P<open>\()")
_STORE = re.compile(
    r"(?<=[;{}):])\s*(?:else\s+)?(?P<lhs>[\w.\[\]]+(?:->[\w.\[\]]+)*)\s*(?P<op>[|&]?=)(?!=)\s*"
    r"(?P<value>[^;{}]+);"
)
_IF = re.compile(r"\bif\s*(\()")
#: What is behind the condition of one: inverted, it would refuse all there is, for all to see.
_REFUSAL = re.compile(r"\)\s*(?:\{\s*)?(?:return|goto)\b")
_RETURN = re.compile(r"\breturn\b\s*([^;]+);")
_FLAG = r"[A-Z][A-Z0-9]*_[A-Z0-9_]+"
_FLAGS = re.compile(rf"(?<![\w|])\b{_FLAG}(?:\s*\|\s*{_FLAG})+\b(?!\s*[(|])")
_ERRNO = re.compile(r"-(E[A-Z0-9]{2,})\b")
#: What an error becomes, and the errors that become another.
_OTHER_ERROR, _ERROR_OF_OTHERS = "EINVAL", "EPERM"
_TEXT = 60


@dataclass(frozen=True)
class Change:
    """What an operator does to a stretch of a file."""

    operator: str
    span: Span
    #: What stands there with the fault.
    text: str
    #: What the id says of it.
    about: str


def changes(text: str, code: str, body: Span) -> list[Change]:
    """Return what all operators make of a function; *code* is the file's *text*, masked."""
    found: list[Change] = []
    for operator in (_conditions, _returns, _flags, _errors, _stores, _calls):
        found += operator(text, code, body)
    return found


def named(file: str, function: str, found: list[Change]) -> list[tuple[str, Change]]:
    """Return *found* with the id of each."""
    counts: Counter[str] = Counter()
    names = []
    for change in found:
        about = " ".join(change.about.split())
        if len(about) > _TEXT:
            about = f"{about[:_TEXT]}...{hashlib.sha256(about.encode()).hexdigest()[:4]}"
        name = f"{file}:{function}:{change.operator}:{about}"
        counts[name] += 1
        names.append((name if counts[name] == 1 else f"{name}#{counts[name]}", change))
    return names


def _trimmed(code: str, start: int, end: int) -> Span:
    piece = code[start:end]
    return Span(start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()))


def _conditions(text: str, code: str, body: Span) -> Iterator[Change]:
    """Conditions inverted, checks dropped, and each operand of && and || dropped."""
    for match in _IF.finditer(code, body.start, body.end):
        end = closing(code, match.start(1))
        span = _trimmed(code, match.start(1) + 1, end)
        about = text[span.start : span.end]
        if not _REFUSAL.match(code, end):
            yield Change("invert", span, f"!({about})", about)
        yield Change("never", span, "0", about)
        yield from _operands(text, code, span)


def _condition_ends(code: str, body: Span) -> set[int]:
    """Where the brackets around conditions close."""
    found = _IF.finditer(code, body.start, body.end)
    return {closing(code, match.start(1)) for match in found}


def _returns(text: str, code: str, body: Span) -> Iterator[Change]:
    """Each operand of && and || of what is returned dropped."""
    for match in _RETURN.finditer(code, body.start, body.end):
        yield from _operands(text, code, _trimmed(code, match.start(1), match.end(1)))


def _operands(text: str, code: str, span: Span) -> Iterator[Change]:
    """The operands of the outermost && or || of an expression, those within them included."""
    start, end = span.start, span.end
    for wrapper in ("unlikely", "likely", "!"):
        opening = re.compile(rf"{re.escape(wrapper)}\s*\(").match(code, start, end)
        if opening and closing(code, opening.end() - 1) == end - 1:
            yield from _operands(text, code, _trimmed(code, opening.end(), end - 1))
            return
    if code[start] == "(" and closing(code, start) == end - 1:
        yield from _operands(text, code, _trimmed(code, start + 1, end - 1))
        return
    cuts = _top_level(code, span)
    for operator in ("||", "&&"):
        places = [at for at, name in cuts if name == operator]
        if not places or any(name == "?" for _, name in cuts):
            continue
        for begin, until in zip([start, *(at + 2 for at in places)], [*places, end], strict=True):
            operand = _trimmed(code, begin, until)
            about = text[operand.start : operand.end]
            yield Change("drop", operand, "0" if operator == "||" else "1", about)
            yield from _operands(text, code, operand)
        return


def _top_level(code: str, span: Span) -> list[tuple[int, str]]:
    """The logical operators of an expression that are in no brackets of it."""
    found, at = [], span.start
    while at < span.end:
        if code[at] in "([{":
            at = closing(code, at)
        elif code[at : at + 2] in ("&&", "||"):
            found.append((at, code[at : at + 2]))
            at += 1
        elif code[at] == "?":
            found.append((at, "?"))
        at += 1
    return found


def _flags(text: str, code: str, body: Span) -> Iterator[Change]:
    """One flag taken from those that are or-ed."""
    for match in _FLAGS.finditer(code, body.start, body.end):
        line = code[code.rfind("\n", 0, match.start()) + 1 : match.start()]
        if re.search(r"\bcase\b|BUILD_BUG_ON|\bstatic\b", line):
            continue
        words = re.split(r"\s*\|\s*", match[0])
        for word in dict.fromkeys(words):
            rest = " | ".join(other for other in words if other != word)
            yield Change("flag", Span(*match.span()), rest, f"{word} of {match[0]}")


def _errors(text: str, code: str, body: Span) -> Iterator[Change]:
    """Another error."""
    for match in _ERRNO.finditer(code, body.start, body.end):
        line = code[code.rfind("\n", 0, match.start()) + 1 : match.start()]
        if re.search(r"\bcase\b|[=!]=\s*$", line):
            continue
        other = _ERROR_OF_OTHERS if match[1] == _OTHER_ERROR else _OTHER_ERROR
        begin = max(code.rfind(end, body.start, match.start()) for end in ";{}") + 1
        yield Change(
            "errno",
            Span(*match.span()),
            f"-{other}",
            f"{match[0]} of {code[begin : match.start()]}",
        )


def _stores(text: str, code: str, body: Span) -> Iterator[Change]:
    """Flags not set or cleared, and members not set."""
    ends = _condition_ends(code, body)
    for match in _STORE.finditer(code, body.start, body.end):
        if match["op"] == "=" and "->" not in match["lhs"] and "." not in match["lhs"]:
            continue  # a variable that is not set would be undefined
        if match.start() - 1 in ends:
            continue  # as if the condition never held
        span = Span(match.start("lhs"), match.end())
        yield Change("store", span, "", text[span.start : span.end - 1])


def _calls(text: str, code: str, body: Span) -> Iterator[Change]:
    """A call whose result nobody looks at left out."""
    ends = _condition_ends(code, body)
    for match in _CALL.finditer(code, body.start, body.end):
        end = closing(code, match.start("open")) + 1
        if _KEPT.search(match["name"]) or not re.match(r"\s*;", code[end:]):
            continue
        if match.start() - 1 in ends:
            continue  # as if the condition never held
        span = Span(match.start("name"), code.index(";", end) + 1)
        yield Change("call", span, "", text[span.start : span.end - 1])
