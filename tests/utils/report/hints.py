# SPDX-License-Identifier: GPL-2.0-only
"""What a failure is told besides: the commit the rule holds since, and how to see it again."""

from __future__ import annotations

from collections.abc import Sequence


def fixes(values: Sequence[object]) -> list[str]:
    """``fixed_by`` markers in the kernel's style; *values* are their arguments in a row.

    A commit that is not known is "-".
    """
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    return [
        f'"{subject}" ({version})' if commit == "-" else f'{commit} ("{subject}") ({version})'
        for commit, version, subject in triples
    ]


def reproduce(nodeid: str, options: str = "") -> str:
    """The command that runs one case, quoted for a shell."""
    quoted = nodeid.replace("'", "'\"'\"'")
    return f"pytest '{quoted}' {options}".rstrip()


def sections(nodeid: str, fixed_by: Sequence[object], options: str = "") -> dict[str, str]:
    """The sections at the end of the report of a case that failed: title -> text."""
    known = {"a kernel without this fix fails here": "\n".join(fixes(fixed_by))} if fixed_by else {}
    return {**known, "reproduce": reproduce(nodeid, options)}
