# SPDX-License-Identifier: GPL-2.0-only
"""A User-Mode Linux for a newer C library: its loader is replaced, where there is room for it."""

from __future__ import annotations

import struct

import pytest

from tests.harness.helpers.images import BANNER, elf
from vm.errors import Problem
from vm.kernel import uml_libc


def test_the_loader_is_replaced_in_place() -> None:
    before = elf(0x60000000, banner=BANNER, interpreter=b"/lib64/ld-linux-x86-64.so.2\0")
    after = uml_libc.with_interpreter(before, b"./ld.so")
    assert len(after) == len(before)
    assert b"./ld.so\0\0" in after
    assert b"ld-linux" not in after
    assert struct.unpack_from("<QQ", after, 64 + 56 + 32) == (8, 8)


@pytest.mark.parametrize("interpreter", [b"", b"/l\0"], ids=["static", "too short"])
def test_a_program_without_room_for_a_loader_is_refused(interpreter: bytes) -> None:
    with pytest.raises(Problem, match="no room"):
        uml_libc.with_interpreter(elf(0x60000000, interpreter=interpreter), b"./ld.so")


def test_the_newest_symbol_version_tells_the_glibc_needed() -> None:
    assert uml_libc.needed_glibc(b"\0GLIBC_2.9\0GLIBC_2.38\0GLIBC_2.2.5\0x") == (2, 38)
    assert uml_libc.needed_glibc(b"nothing") == (0, 0)
