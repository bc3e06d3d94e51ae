# SPDX-License-Identifier: GPL-2.0-only
"""From the exception that failed a case to a :class:`Deviation`. Does nothing until a case fails.

An expectation of tests.utils.expect says by itself what deviated. For a bare call that the kernel
refused, the frame of its wrapper has the arguments; for a plain assert, pytest gives the two sides,
and the call is the last one that the case's source has before it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

from tests.utils import expect
from tests.utils.deviation import Deviation
from tests.utils.expect import Call, Difference

_TESTS = str(Path(__file__).resolve().parents[1])
_WRAPPERS = "tests.utils.uapi."
#: The rules of which a refusal breaks one where the call should succeed, whatever a case is about.
#: What is left behind uses limits up.
_REFUSALS = {
    ("open_tree", "EPERM"): "U1",
    **{(call, "ENOSPC"): "T3 T4 T1" for call in ("open_tree", "fsmount", "unshare")},
    ("setns", "EPERM"): "U4 U2",
    ("ns_get_userns", "EPERM"): "U2",
}
#: Arguments that can be looked at once more: no calls.
_PLAIN = (
    *(ast.Name, ast.Constant, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop),
    *(ast.expr_context, ast.JoinedStr, ast.FormattedValue, ast.Tuple),
)
#: Characters of an expression or a value that are shown.
_LONGEST = 90

#: The last comparison that failed in an assert: both sides.
_compared: list[tuple[object, object]] = []


def compared(found: object, expected: object) -> None:
    """Note what an assert compares, for the failure that follows."""
    _compared[:] = [(found, expected)]


def deviation_of(error: BaseException) -> Deviation:
    """Return what *error*, which failed a case, is about."""
    ready = getattr(error, "deviation", None)
    if isinstance(ready, Deviation):
        return ready
    try:
        return _diagnosed(error)
    except Exception:  # the failure counts, and is reported in any event
        return Deviation(came=_said(error))


def _said(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _diagnosed(error: BaseException) -> Deviation:
    frames = [(frame, line) for frame, line in walk_tb(error.__traceback__) if _is_ours(frame)]
    if isinstance(error, OSError) and error.errno:
        return _refusal(error, frames)
    node = _statement(*frames[-1]) if frames else None
    if not (isinstance(error, AssertionError) and isinstance(node, ast.Assert)):
        return Deviation(_call_before(frames), came=_said(error))
    if not (
        _compared
        and isinstance(node.test, ast.Compare)
        and all(isinstance(op, ast.Eq) for op in node.test.ops)
    ):
        return Deviation(_call_before(frames), came=f"not so: {_short(ast.unparse(node.test))}")
    found = _comparison(*_compared[0], node.test)
    return found if found.call else replace(found, call=_call_before(frames))


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_TESTS)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _refusal(error: OSError, frames: list[tuple[FrameType, int]]) -> Deviation:
    """Return the deviation of a call that should have succeeded."""
    name = expect.errno_name(error)
    for frame, _ in frames:
        if frame.f_globals.get("__name__", "").startswith(_WRAPPERS):
            call = _call_of(frame)
            namespace = "OPEN_TREE_NAMESPACE" in call or not call.startswith("open_tree")
            rule = _REFUSALS.get((frame.f_code.co_name, name), "") if namespace else ""
            return Deviation(call, expected="success", came=f"got {name}", rule=rule)
    call = str(error.strerror).partition(":")[0] if error.filename is None else str(error.filename)
    if frames:
        node = _failing(frames[-1][0], error)
        call = node or call
    return Deviation(call, expected="success", came=f"got {name}")


def _call_of(frame: FrameType) -> str:
    """Spell the call that *frame*, of a function in a module, carries out."""
    function = frame.f_globals.get(frame.f_code.co_name)
    if not callable(function):
        return frame.f_code.co_name
    given = {
        name: frame.f_locals.get(name)
        for name, parameter in inspect.signature(function).parameters.items()
        if frame.f_locals.get(name) is not parameter.default
    }
    first = inspect.signature(function).parameters.values()
    plain = [one.name for one in first if one.kind is one.POSITIONAL_OR_KEYWORD]
    args = []
    while plain and plain[0] in given:
        args.append(given.pop(plain.pop(0)))
    return str(Call(function, tuple(args), given))


def _failing(frame: FrameType, error: OSError) -> str:
    """Return the text of the expression that raised *error* in *frame*."""
    trace = error.__traceback__
    while trace is not None and (trace.tb_frame is not frame or trace.tb_next is not None):
        trace = trace.tb_next
    if trace is None:
        return ""
    positions = list(frame.f_code.co_positions())[trace.tb_lasti // 2]
    line, last, start, end = positions
    if line is None or line != last:
        return ""
    text = linecache.getline(frame.f_code.co_filename, line).encode()
    return _short(text[start:end].decode())


def _comparison(found: object, expected: object, test: ast.Compare) -> Deviation:
    first = next(_deep(found, expected), None)
    if first is None:
        return Deviation(came=f"not so: {_short(ast.unparse(test))}")
    if isinstance(first, Deviation):
        return first
    if isinstance(first.found, expect.Outcome) and first.expected is not expect.NOTHING:
        return first.found.deviation(first.expected)
    if isinstance(first.expected, expect.Outcome) and first.found is not expect.NOTHING:
        return first.expected.deviation(first.found)
    aspect = ": ".join(filter(None, (_short(ast.unparse(test.left)), first.where.strip(" :"))))
    if first.found is expect.NOTHING:
        return Deviation("", aspect, _short(repr(first.expected)), "not there")
    wanted = "nothing" if first.expected is expect.NOTHING else _short(repr(first.expected))
    return Deviation("", aspect, wanted, f"found {_short(repr(first.found))}")


def _deep(found: object, expected: object) -> Iterator[Deviation | Difference]:
    """Yield the differences; those of values that can say more of themselves as deviations."""
    for each in expect.differences(found, expected):
        say: Any = getattr(each.expected, "deviation", None)
        if callable(say) and not isinstance(each.expected, expect.Outcome):
            yield say(each.found)
        else:
            yield each


# --- the source of a case ------------------------------------------------------------------------


@functools.cache
def _tree(file: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ast.Module([], [])


def _covers(node: ast.AST, line: int) -> bool:
    first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    return bool(first <= line <= last)


def _statement(frame: FrameType, line: int) -> ast.stmt | None:
    """Return the innermost statement on *line*."""
    every = ast.walk(_tree(frame.f_code.co_filename))
    found = [node for node in every if isinstance(node, ast.stmt) and _covers(node, line)]
    return max(found, key=lambda node: node.lineno, default=None)


def _call_before(frames: list[tuple[FrameType, int]]) -> str:
    """Spell the last call that the case's source has up to where it failed, empty for none."""
    for frame, line in reversed(frames):
        functions = [
            node
            for node in ast.walk(_tree(frame.f_code.co_filename))
            if isinstance(node, ast.FunctionDef) and _covers(node, line)
        ]
        function = max(functions, key=lambda node: node.lineno, default=None)
        if function is None:
            continue
        nodes = [n for n in ast.walk(function) if isinstance(n, ast.Call) and n.lineno <= line]
        for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset), reverse=True):
            if text := _spelt(node, frame):
                return text
    return ""


def _spelt(node: ast.Call, frame: FrameType) -> str:
    """Spell a call in the source of *frame* with the values of now; empty if it is none of the
    kernel's."""
    target, given = _resolved(node.func, frame), node.args
    skipped = 0 if target in (expect.outcome, expect.answer) else 1
    if target in (expect.outcome, expect.answer, expect.fails) and skipped < len(given):
        target, given = _resolved(given[skipped], frame), given[skipped + 1 :]
    if not callable(target) or not (
        getattr(target, "__module__", "") == f"{_WRAPPERS}syscalls" or hasattr(target, "spell")
    ):
        return ""
    try:
        args = [_value(one, frame) for one in given]
        kwargs = {one.arg: _value(one.value, frame) for one in node.keywords if one.arg}
        return str(Call(target, tuple(args), kwargs))
    except Exception:  # a variable that is not there, or no longer what it was
        words = [*map(ast.unparse, given), *map(ast.unparse, node.keywords)]
        return _short(f"{target.__name__}({', '.join(words)})")


def _resolved(node: ast.expr, frame: FrameType) -> Callable[..., object] | None:
    try:
        found: Any = _value(node, frame)
    except Exception:
        return None
    return found if callable(found) else None


def _value(node: ast.expr, frame: FrameType) -> object:
    """Return what an expression of names and operators stands for in *frame*."""
    if not all(isinstance(part, _PLAIN) for part in ast.walk(node)):
        raise ValueError(f"not a plain expression: {ast.unparse(node)}")
    code = compile(ast.Expression(node), "<argument>", "eval")
    return eval(code, frame.f_globals, frame.f_locals)
