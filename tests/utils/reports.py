# SPDX-License-Identifier: GPL-2.0-only
"""How the isolated child's reports, warnings and last words travel to the pytest process.

Events are pickled (pytest's own serialised reports hold tuples that must stay tuples) and framed
with their length. The reader trusts no length beyond a limit, since a case may have written into
the file what it liked.
"""

from __future__ import annotations

import os
import pickle
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

#: The longest event a reader accepts, in bytes.
MAX_EVENT = 64 << 20
#: Where captured text is cut, in characters, when an event would become too long.
MAX_SECTION = 1 << 20

_HEADER = struct.Struct("<I")

#: An event: its kind, and what belongs to it.
Event = tuple[str, Any]


class BrokenChannel(Exception):
    """What is among the events is not what the child's side of the channel sends."""


def _plain(value: object) -> object:
    """*value* with everything that is not a plain builtin replaced by its text."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return (
            type(value)([_plain(item) for item in value])
            if type(value) in (tuple, list)
            else [_plain(item) for item in value]
        )
    return str(value)


def _cut(event: Event) -> Event:
    """*event* with long strings cut in the middle."""

    def cut(value: Any) -> Any:
        if isinstance(value, str) and len(value) > MAX_SECTION:
            half = MAX_SECTION // 2
            left_out = len(value) - MAX_SECTION
            return f"{value[:half]}\n[... {left_out} characters left out ...]\n{value[-half:]}"
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        if isinstance(value, list):
            return [cut(item) for item in value]
        if isinstance(value, tuple):
            return tuple(cut(item) for item in value)
        return value

    return event[0], cut(_plain(event[1]))


def encode(event: Event) -> bytes:
    """*event* as one frame; what cannot be pickled becomes text, what is too long is cut."""
    try:
        data = pickle.dumps(event)
        # A local class pickles in no process, but an odd one may pickle and not come back.
        pickle.loads(data)
    except Exception:
        data = pickle.dumps((event[0], _plain(event[1])))
    if len(data) > MAX_EVENT:
        data = pickle.dumps(_cut(event))
    return _HEADER.pack(len(data)) + data


def send(fd: int, kind: str, payload: object = None) -> None:
    """Write one event to *fd*, whole."""
    view = memoryview(encode((kind, payload)))
    while view:
        view = view[os.write(fd, view) :]


class Decoder:
    """Takes bytes as they come and gives the events they complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Add *data*; yield each event that is now whole.

        :raises BrokenChannel: the bytes cannot come from :func:`send`.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > MAX_EVENT:
                raise BrokenChannel(f"an event of {length} bytes is announced")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            try:
                kind, payload = pickle.loads(frame)
            except Exception as error:
                raise BrokenChannel(f"an event cannot be read: {error!r}") from error
            yield kind, payload


def merge_sections(report: pytest.TestReport) -> None:
    """Join the sections of *report* that have one title: a phase done in two processes."""
    merged: dict[str, str] = {}
    for title, text in report.sections:
        merged[title] = merged.get(title, "") + text
    report.sections = list(merged.items())


def dump_report(config: pytest.Config, report: pytest.TestReport) -> tuple[bool, Any]:
    """*report*, to be sent as an event: whether it is plain, and then pytest's serialised form."""
    merge_sections(report)
    if type(report) is pytest.TestReport and report.longrepr is None:
        # What it is made of as it is, at a tenth of the price; and most reports are like that.
        parts = {name: value for name, value in vars(report).items() if name != "_id"}
        return True, {**parts, "nodeid": report.nodeid}
    return False, config.hook.pytest_report_to_serializable(config=config, report=report)


def load_report(config: pytest.Config, dumped: tuple[bool, Any]) -> pytest.TestReport:
    """The report that :func:`dump_report` made *dumped* of."""
    plain, data = dumped
    if plain:
        return pytest.TestReport(**data)
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(
        config=config, data=data
    )
    context = data.get("_subtest.context") if isinstance(data, dict) else None
    if context is not None and "kwargs" in context:
        # pytest takes the values, which are texts by now, for those the case gave.
        object.__setattr__(report.context, "kwargs", context["kwargs"])
    return report


def dump_warning(message: warnings.WarningMessage) -> dict[str, Any]:
    """A recorded warning as an event; its exception itself only if it survives pickling."""
    warning: object = message.message
    try:
        pickle.loads(pickle.dumps(warning))
    except Exception:
        warning = None
    return {
        "warning": warning,
        "category": message.category.__name__,
        "text": str(message.message),
        "filename": message.filename,
        "lineno": message.lineno,
        "line": message.line,
    }


def load_warning(data: dict[str, Any]) -> warnings.WarningMessage:
    """The warning that :func:`dump_warning` made *data* of."""
    warning = data["warning"]
    if not isinstance(warning, Warning):
        warning = type(data["category"], (Warning,), {})(data["text"])
    return warnings.WarningMessage(
        warning, type(warning), data["filename"], data["lineno"], line=data["line"]
    )


def replay_warning(item: pytest.Item, data: dict[str, Any]) -> None:
    """Tell the pytest process of a warning the child recorded."""
    item.ihook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": load_warning(data),
            "nodeid": item.nodeid,
            "when": "runtest",
            "location": None,
        }
    )
