# SPDX-License-Identifier: GPL-2.0-only
"""The channel from a case's child to pytest: length-prefixed pickles of (kind, payload).

The child appends to a file in memory that both processes have open. What comes out is checked for
its form alone: a case may have written into the file what it liked.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

#: Where captured text is cut, in characters.
MAX_SECTION = 1 << 20
#: The longest event a reader accepts, in bytes.
_MAX_EVENT = 256 << 20
_HEADER = struct.Struct("<I")


class BrokenChannel(Exception):
    """The bytes read are not what :func:`send` writes."""


def send(fd: int, kind: str, payload: object = None) -> None:
    """Write one event to *fd*, whole."""
    data = pickle.dumps((kind, payload))
    view = memoryview(_HEADER.pack(len(data)) + data)
    while view:
        view = view[os.write(fd, view) :]


class Reader:
    """Reads the events in a file that is still being written."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read = 0
        self._buffer = b""

    def events(self) -> Iterator[tuple[str, Any]]:
        """Yield the events that are whole and have not been read yet: kind and payload.

        :raises BrokenChannel: the bytes cannot come from :func:`send`.
        """
        # Not read(2): the position in the file is the child's.
        while data := os.pread(self._fd, 1 << 20, self._read):
            self._read += len(data)
            self._buffer += data
            while len(self._buffer) >= _HEADER.size:
                (length,) = _HEADER.unpack_from(self._buffer)
                if length > _MAX_EVENT:
                    raise BrokenChannel(f"an event of {length} bytes is announced")
                end = _HEADER.size + length
                if len(self._buffer) < end:
                    break
                frame, self._buffer = self._buffer[_HEADER.size : end], self._buffer[end:]
                try:
                    kind, payload = pickle.loads(frame)
                except Exception as error:
                    raise BrokenChannel(f"an event cannot be read: {error!r}") from error
                yield kind, payload


def _cut(text: str) -> str:
    """Return *text* with what is over MAX_SECTION characters left out of its middle."""
    over, half = len(text) - MAX_SECTION, MAX_SECTION // 2
    if over <= 0:
        return text
    return f"{text[:half]}\n[... {over} characters left out ...]\n{text[-half:]}"


def _plain(value: object) -> object:
    """Return *value*, or its text when it may not survive pickling."""
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value)) if type(value) in (tuple, list) else str(value)
    return value if type(value) in (bool, int, float, str, bytes, type(None)) else str(value)


def dump_report(config: pytest.Config, report: pytest.TestReport) -> tuple[bool, Any]:
    """Return *report* as the payload of an event: whether it is plain, and its contents.

    A plain report passed, or was skipped, and has nothing that pytest would have to serialise.
    """
    report.sections = [(title, _cut(text)) for title, text in report.sections]
    report.user_properties = [(name, _plain(value)) for name, value in report.user_properties]
    if type(report) is pytest.TestReport and isinstance(report.longrepr, tuple | None):
        parts = {name: value for name, value in vars(report).items() if name != "_id"}
        return True, {**parts, "nodeid": report.nodeid}
    return False, config.hook.pytest_report_to_serializable(config=config, report=report)


def load_report(config: pytest.Config, dumped: tuple[bool, Any]) -> pytest.TestReport:
    """Return the report that :func:`dump_report` made *dumped* of."""
    plain, data = dumped
    if plain:
        return pytest.TestReport(**data)
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(
        config=config, data=data
    )
    if kwargs := data.get("_subtest.context", {}).get("kwargs"):
        # pytest takes the values, which are texts by now, for those the case gave.
        object.__setattr__(report.context, "kwargs", kwargs)
    return report


def dump_warning(message: warnings.WarningMessage) -> tuple[str, str, str, str, int]:
    """Return a recorded warning as the payload of an event."""
    kind = message.category
    return kind.__module__, kind.__name__, str(message.message), message.filename, message.lineno


def replay_warning(item: pytest.Item, data: tuple[str, str, str, str, int]) -> None:
    """Record in the pytest process the warning that :func:`dump_warning` made *data* of."""
    module, name, text, filename, lineno = data
    category = getattr(sys.modules.get(module), name, None)
    if not (isinstance(category, type) and issubclass(category, Warning)):
        # One that the case has defined: of use by its name alone.
        category = type(name, (UserWarning,), {"__module__": "builtins"})
    warning: Warning = Warning.__new__(category, text)
    item.ihook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": warnings.WarningMessage(warning, type(warning), filename, lineno),
            "nodeid": item.nodeid,
            "when": "runtest",
            "location": None,
        }
    )
