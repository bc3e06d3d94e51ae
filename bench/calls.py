# SPDX-License-Identifier: GPL-2.0-only
"""The system calls the methods are made of, each bound once so that making it costs little.

The wrappers of tests.utils make C values of their arguments at every call, which takes longer than
some of the calls that are measured here. These pass plain integers and bytes on as they are, which
ctypes does fastest, and look at nothing but the result.

The same method runs on several kinds of calls: real ones; real ones that enter nothing; hollow
ones, which go the same way through Python and ctypes to a C function that does nothing; and
recorded ones, which only tell their names.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable

from tests.utils.uapi.syscalls import (
    NR_FSCONFIG,
    NR_FSMOUNT,
    NR_FSOPEN,
    NR_LISTMOUNT,
    NR_MOVE_MOUNT,
    NR_OPEN_TREE,
    NR_STATMOUNT,
)

Call = Callable[..., int]

#: Numbers of the calls without a wrapper in older C libraries.
NUMBERS = {
    "open_tree": NR_OPEN_TREE,
    "move_mount": NR_MOVE_MOUNT,
    "fsopen": NR_FSOPEN,
    "fsconfig": NR_FSCONFIG,
    "fsmount": NR_FSMOUNT,
    "listmount": NR_LISTMOUNT,
    "statmount": NR_STATMOUNT,
}
#: PyDLL: there is no other thread to give way to, and a quarter of a call's cost is saved.
_libc = ctypes.PyDLL(None, use_errno=True)


class Calls:
    """The calls, by the names and with the arguments of their manual pages.

    Flags are plain integers, paths are bytes, NULL is None; bench.program takes memory of ctypes',
    too. Each returns what the kernel returned.

    :raises OSError: (real calls) the kernel's errno, with the name of the call.
    """

    def __init__(self, make: Callable[[str], Call]) -> None:
        """*make* makes the call of a name."""
        self.unshare = make("unshare")
        self.setns = make("setns")
        self.mount = make("mount")
        self.umount2 = make("umount2")
        self.pivot_root = make("pivot_root")
        self.chdir = make("chdir")
        self.fchdir = make("fchdir")
        self.chroot = make("chroot")
        self.open = make("open")
        self.close = make("close")
        self.open_tree = make("open_tree")
        self.move_mount = make("move_mount")
        self.fsopen = make("fsopen")
        self.fsconfig = make("fsconfig")
        self.fsmount = make("fsmount")
        self.openat = make("openat")
        self.read = make("read")
        self.listmount = make("listmount")
        self.statmount = make("statmount")


def _checker(name: str) -> Callable[[int], int]:
    def check(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return result

    return check


def bound(name: str, function: str) -> Call:
    """Return the C library's *function*, which raises the errno as that of the call *name*."""
    found = _libc[function]  # an object of its own at every look-up
    found.restype = _checker(name)
    return functools.partial(found, NUMBERS[name]) if name in NUMBERS else found


def function_address(function: str) -> int:
    """Return where the C library has *function*."""
    return ctypes.cast(_libc[function], ctypes.c_void_p).value or 0


def real() -> Calls:
    """Return calls that the kernel gets."""
    return Calls(lambda name: bound(name, "syscall" if name in NUMBERS else name))


def staying() -> Calls:
    """Return calls that the kernel gets, but for setns(2), which does nothing."""
    calls = real()
    calls.setns = bound("setns", "abs")
    return calls


def hollow() -> Calls:
    """Return calls that end in the C library's abs(3): what is left is the cost of making them."""
    return Calls(lambda name: bound(name, "abs"))


def recorded(function: Callable[[Calls], object]) -> list[str]:
    """Return the names of the calls that *function* makes, in their order; the kernel gets none."""
    names: list[str] = []

    def make(name: str) -> Call:
        def call(*_arguments: object) -> int:
            names.append(name)
            return len(names)

        return call

    function(Calls(make))
    return names
