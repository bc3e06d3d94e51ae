# SPDX-License-Identifier: GPL-2.0-only
"""Expectations of calls: a failure names the call, its arguments, what was expected and what came.

A call ends in :data:`SUCCESS` or in the name of an errno. There are no other words for it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from functools import partial
from typing import Any, NoReturn, ParamSpec, TypeVar

from tests.utils.deviation import Deviation

P = ParamSpec("P")
T = TypeVar("T")

#: How a call ends that the kernel does not refuse.
SUCCESS = "success"
_AT_FDCWD = -100
#: Parameters whose plain numbers are bits, shown in hexadecimal.
_BITS = frozenset({"flags", "kinds", "attr_set", "attr_clr", "attr_flags", "mask", "propagation"})


def errno_name(error: OSError) -> str:
    """Return the name of the errno of *error*; its number where it has no name."""
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def shorthand(spell: Callable[P, partial[T]]) -> Callable[P, T]:
    """Turn *spell*, which returns a call, into a function that makes it; texts name that call."""

    @functools.wraps(spell)
    def make(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        return spell(*args, **kwargs)()

    make.spell = spell  # type: ignore[attr-defined]
    return make


@dataclass(slots=True)
class Call:
    """A call with its arguments; as text, spelt with the names of descriptors and flags."""

    function: Callable[..., object]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        function, args, kwargs = self.function, self.args, dict(self.kwargs)
        while True:
            if isinstance(function, partial):
                args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
                function = function.func
            elif hasattr(function, "spell"):
                function, args, kwargs = function.spell(*args, **kwargs), (), {}
            else:
                break
        names = _parameters(function)
        names += [""] * (len(args) - len(names))
        words = [_spelt(name, value) for name, value in zip(names, args, strict=False)]
        words += [f"{name}={_spelt('', value)}" for name, value in kwargs.items()]
        return f"{getattr(function, '__name__', function)}({', '.join(words)})"


def _parameters(function: Callable[..., object]) -> list[str]:
    """Return the names of the positional parameters, as far as they are known."""
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def _spelt(name: str, value: object) -> str:
    """Spell the argument *value* of the parameter *name* as the kernel's headers do."""
    if isinstance(value, IntFlag):
        unknown = int(value) & ~sum(value)
        names = [str(flag.name) for flag in value]
        return "|".join([*names, hex(unknown)] if unknown else names) or "0"
    if isinstance(value, ctypes.Structure):
        fields = ((entry[0], getattr(value, entry[0])) for entry in value._fields_)
        return "{" + ", ".join(f"{key}={number:#x}" for key, number in fields if number) + "}"
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, int) and not isinstance(value, bool):
        if value == _AT_FDCWD:
            return "AT_FDCWD"
        if name.endswith("fd"):
            return f"fd {value}"
        if name in _BITS:
            return hex(value) if value else "0"
    return repr(value)


class _Text(str):
    """The repr of what is no more."""

    def __repr__(self) -> str:
        return str(self)


class Outcome(str):
    """How a call ended: :data:`SUCCESS` or the name of an errno, equal to that text.

    Its repr shows the call too, and so do the failures of comparisons (:func:`explain`).
    """

    def __new__(cls, end: str, call: Call | str, result: object = None) -> Outcome:
        self = super().__new__(cls, end)
        self.call, self.result = call, result
        return self

    call: Call | str
    #: What the call returned, if it succeeded.
    result: object

    def __repr__(self) -> str:
        return f"{self.call} -> {self}"

    def __str__(self) -> str:
        return str.__str__(self)

    def __reduce__(self) -> tuple[object, ...]:
        # From a child process come texts: what was given and returned may be of no use elsewhere.
        spelled = self.result if isinstance(self.result, int | None) else _Text(repr(self.result))
        return Outcome, (str(self), str(self.call), spelled)

    def against(self, expected: object) -> str:
        """Return the text of a failure: the call, what was expected of it, and what came."""
        found = self.deviation(expected)
        # Calls that give 0 and nothing else are wrapped to return nothing.
        result = f" with {0 if self.result is None else self.result!r}" if self == SUCCESS else ""
        return f"{found.line}{result}"

    def deviation(self, expected: object) -> Deviation:
        """Return how the call ended otherwise than *expected*."""
        came = "succeeded" if self == SUCCESS else f"got {self}"
        return Deviation(str(self.call), expected=str(expected), came=came)


def outcome(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Outcome:
    """Make *call* and return how it ended."""
    made = Call(call, args, kwargs)
    try:
        result = call(*args, **kwargs)
    except OSError as error:
        return Outcome(errno_name(error), made)
    return Outcome(SUCCESS, made, result)


def fails(number: int, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Make *call*, which the kernel must refuse with exactly the errno *number*."""
    __tracebackhide__ = True
    end = outcome(call, *args, **kwargs)
    if end != errno.errorcode[number]:
        deviate(end.against(errno.errorcode[number]), end.deviation(errno.errorcode[number]))


def deviate(message: str, deviation: Deviation) -> NoReturn:
    """Fail with *message*; the report carries *deviation*."""
    __tracebackhide__ = True
    # Where a case fails it is loaded; the launcher imports this module, and needs no pytest.
    import pytest

    failure = pytest.fail.Exception(message)
    failure.deviation = deviation  # type: ignore[attr-defined]  # see tests.utils.diagnosis
    raise failure


def answer(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> object:
    """Make *call* and return its result, or the :class:`Outcome` when it is refused."""
    end = outcome(call, *args, **kwargs)
    return end.result if end == SUCCESS else end


def explain(found: object, expected: object) -> list[str] | None:
    """Say where *found* differs from *expected*, a line each; None where it holds no outcome.

    For pytest_assertrepr_compare(): the first line is the summary.
    """
    if isinstance(expected, Outcome):
        found, expected = expected, found
    if not _holds_outcome(found):
        return None
    lines = [each.text for each in differences(found, expected)]
    return lines if len(lines) == 1 else [f"{len(lines)} differ from what was expected", *lines]


def _holds_outcome(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_outcome, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return any(map(_holds_outcome, value))
    return isinstance(value, Outcome)


class _Nothing:
    """Stands for what is not there."""


NOTHING = _Nothing()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where a value is not as expected; either side may be :data:`NOTHING`."""

    #: Where in the value, as a head of the text: "a: [0] ".
    where: str
    found: object
    expected: object

    @property
    def text(self) -> str:
        """The difference in one line."""
        if self.found is NOTHING:
            return f"{self.where}expected {self.expected!r}, not there"
        if self.expected is NOTHING:
            return f"{self.where}not expected, found {self.found!r}"
        if isinstance(self.found, Outcome):
            return self.where + self.found.against(self.expected)
        return f"{self.where}expected {self.expected!r}, found {self.found!r}"


def differences(found: object, expected: object, where: str = "") -> Iterator[Difference]:
    """Yield where *found* differs from *expected*, however deep in dicts, lists and tuples."""
    if found == expected:
        return
    if isinstance(found, dict) and isinstance(expected, dict):
        missing = expected.keys() - found.keys()
        # Of calls that are counted by how they ended: those that ended otherwise.
        others = [key for key in found if isinstance(key, Outcome) and key not in expected]
        if missing and others:
            yield from (Difference(where, end, " or ".join(map(str, missing))) for end in others)
            return
        for key in missing:
            yield Difference(f"{where}{key}: ", NOTHING, expected[key])
        for key, value in found.items():
            if key in expected:
                yield from differences(value, expected[key], f"{where}{key}: ")
            else:
                yield Difference(f"{where}{key}: ", value, NOTHING)
    elif (
        isinstance(found, list | tuple)
        and type(found) is type(expected)
        and len(found) == len(expected)
        and not hasattr(expected, "deviation")  # says by itself what differs
    ):
        for number, pair in enumerate(zip(found, expected, strict=True)):
            yield from differences(*pair, f"{where}[{number}] ")
    else:
        yield Difference(where, found, expected)
