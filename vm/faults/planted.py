# SPDX-License-Identifier: GPL-2.0-only
"""All faults at their places in a kernel's source, each with the number that switches it on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.errors import Exit, Problem
from vm.faults import c, operators
from vm.faults.catalogue import MECHANICAL, Edit, Fault, Operators
from vm.faults.weave import Switch, Woven, clash, weave

_ERROR = re.compile(r"(\S+):(\d+):(\d+): error: (.*)")


@dataclass(frozen=True)
class Located:
    """An edit, and where in its file it is made."""

    edit: Edit
    span: c.Span


class Source:
    """The files of a kernel's source that faults are in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._texts: dict[str, str] = {}
        self._code: dict[str, tuple[str, dict[str, c.Span]]] = {}

    def text(self, file: str) -> str:
        """Return the contents of *file*. Raises OSError."""
        if file not in self._texts:
            self._texts[file] = (self.folder / file).read_text(encoding="utf-8")
        return self._texts[file]

    def code(self, file: str) -> tuple[str, dict[str, c.Span]]:
        """Return *file* masked, and its functions. Raises OSError."""
        if file not in self._code:
            code = c.masked(self.text(file))
            self._code[file] = code, c.functions(code)
        return self._code[file]

    def locate(self, edit: Edit) -> Located:
        """Return where *edit* is made. Raises ValueError with what is wrong where it cannot be."""
        try:
            text = self.text(edit.file)
        except OSError as error:
            raise ValueError(f"{edit.file}: {error.strerror}") from None
        body, where = c.Span(0, len(text)), edit.file
        if edit.function:
            where = f"{edit.function}() of {edit.file}"
            functions = self.code(edit.file)[1]
            if edit.function not in functions:
                raise ValueError(f"there is no {where}")
            body = functions[edit.function]
        found = c.places(text, body, edit.find)
        if len(found) != 1:
            count = f"is {len(found)} times" if found else "is not"
            raise ValueError(f"this text {count} in {where}: {' '.join(edit.find.split())}")
        return Located(edit, found[0])

    def digest(self, files: Iterable[str]) -> str:
        """Return what changes when one of *files* does."""
        total = hashlib.sha256()
        for file in sorted(set(files)):
            total.update(self.text(file).encode())
        return total.hexdigest()[:12]

    def mechanical(self, known: Operators) -> tuple[list[Fault], dict[str, list[Located]]]:
        """Return the mechanical faults, and where each is. What is known to be left out is not
        among them.

        :raises Problem: a function is not there.
        """
        faults: list[Fault] = []
        places: dict[str, list[Located]] = {}
        for file, names in known.functions.items():
            code, functions = self.code(file)
            for function in names:
                if function not in functions:
                    raise Problem(f"operators.toml: there is no {function}() in {file}")
                found = operators.changes(self.text(file), code, functions[function])
                for name, change in operators.named(file, function, found):
                    if known.leaves_out(name):
                        continue
                    span = change.span
                    edit = Edit(file, function, self.text(file)[span.start : span.end], change.text)
                    rules = known.rules.get(function, ())
                    faults.append(
                        Fault(
                            name,
                            change.operator,
                            MECHANICAL,
                            (edit,),
                            rules=rules,
                            silent=known.silent.get(name, ""),
                            equivalent=known.equivalent.get(name, ""),
                        )
                    )
                    places[name] = [Located(edit, span)]
        return faults, places


@dataclass
class Planted:
    """Faults with numbers, and the files of the source with the switches in them."""

    source: Source
    #: By their numbers, from 1.
    numbers: dict[int, Fault] = field(default_factory=dict)
    places: dict[int, list[Located]] = field(default_factory=dict)
    #: Mechanical faults that could not be planted: id -> why.
    dropped: dict[str, str] = field(default_factory=dict)

    def number(self, fault: Fault) -> int:
        """Return the number of *fault*, 0 where it has none."""
        return next((n for n, other in self.numbers.items() if other.id == fault.id), 0)

    def drop(self, number: int, why: str) -> None:
        """Take out a mechanical fault, whose number no other gets."""
        self.dropped[self.numbers.pop(number).id] = why
        del self.places[number]

    def woven(self) -> dict[str, Woven]:
        """Return the files with switches: path -> text."""
        files: dict[str, list[Switch]] = {}
        for number, places in self.places.items():
            for place in places:
                switch = Switch(place.span, number, place.edit.replace)
                files.setdefault(place.edit.file, []).append(switch)
        return {file: weave(self.source.text(file), found) for file, found in files.items()}


def plant(source: Source, hand: Sequence[Fault], known: Operators) -> Planted:
    """Return all faults that a switch can stand for, each at its place.

    :raises Problem: a fault written by hand has no place any more, or none of its own.
    """
    planted = Planted(source)
    places: dict[str, list[Located]] = {}
    wrong = []
    for fault in hand:
        try:
            places[fault.id] = [source.locate(edit) for edit in fault.edits]
        except ValueError as error:
            wrong.append(f"{fault.family}.toml: {fault.id}: {error}")
    if wrong:
        raise Problem(
            "\n".join(["faults that this source has no place for:", *wrong])
            + "\nhint: bring `find` up to date, or take another kernel with --kernel"
        )
    mechanical, more = source.mechanical(known)
    places |= more
    single = [fault for fault in hand if len(fault.edits) == 1]
    there = {_made(places[fault.id][0]): fault.id for fault in single}
    for fault in mechanical:
        (place,) = places[fault.id]
        if same := there.get(_made(place)):
            planted.dropped[fault.id] = f"is the same as {same}"
    mechanical = [fault for fault in mechanical if fault.id not in planted.dropped]
    for number, fault in enumerate([*hand, *mechanical], 1):
        if not fault.alone:
            planted.numbers[number] = fault
            planted.places[number] = places[fault.id]
    _resolve(planted)
    return planted


def _made(place: Located) -> tuple[str, c.Span, str]:
    """What an edit makes of the source."""
    return place.edit.file, place.span, "".join(place.edit.replace.split())


def _resolve(planted: Planted) -> None:
    """Drop the mechanical faults that overlap one written by hand."""
    while True:
        files: dict[str, list[Switch]] = {}
        for number, places in planted.places.items():
            for place in places:
                switch = Switch(place.span, number, "")
                files.setdefault(place.edit.file, []).append(switch)
        clashes = list(filter(None, map(clash, files.values())))
        if not clashes:
            return
        for pair in clashes:
            faults = [planted.numbers[one.number] for one in pair if one.number in planted.numbers]
            gone = [fault for fault in faults if fault.kind == MECHANICAL]
            if not gone and len(faults) == 2:
                raise Problem(
                    f"{faults[0].id} and {faults[1].id}: their texts overlap\n"
                    "hint: make one of the two hold the other"
                )
            for fault in gone[:1]:
                other = next(one for one in faults if one is not fault)
                planted.drop(planted.number(fault), f"overlaps {other.id}")


def errors(log: str, files: Iterable[str]) -> Iterator[tuple[str, int, int, str]]:
    """Yield the compiler's errors in *files* from make's output: file, line, column, text."""
    known = list(files)
    for name, line, column, text in _ERROR.findall(log):
        file = next((one for one in known if f"/{name}".endswith(f"/{one}")), "")
        if file:
            yield file, int(line), int(column), text


def blamed(planted: Planted, woven: Mapping[str, Woven], log: str) -> dict[int, str]:
    """Return the faults that do not compile, and what the compiler says of each.

    :raises Problem: one of them was written by hand.
    """
    found: dict[int, str] = {}
    for file, line, column, text in errors(log, woven):
        numbers = woven[file].numbers_at(line, column) or woven[file].numbers_at(line)
        if numbers:
            found.setdefault(numbers[0], text)
    for number, text in found.items():
        fault = planted.numbers[number]
        if fault.kind != MECHANICAL:
            raise Problem(f"{fault.family}.toml: {fault.id}: does not compile: {text}", Exit.USAGE)
    return found
