# SPDX-License-Identifier: GPL-2.0-only
"""A program of system calls that a process runs without Python: what a process costs, and no more.

os.fork() copies the page tables of an interpreter, which takes many times as long as a container.
A runtime's process is cheaper: clone(2) with CLONE_VM and CLONE_VFORK, as posix_spawn(3) has it,
copies nothing, and the parent stands still until the child has exited.

Such a child must not run Python. It would run on the parent's thread state and on a stack that the
interpreter takes for overflown where it compares addresses (3.14), and whatever it changed of the
interpreter would stay changed; its bytecode would be measured, too. An executable to start instead
would add an execve(2) to each container. So the calls of a method are recorded once, as a table,
and the child is a loop of seventy bytes of machine code, which makes the calls of the table one
after the other, to the first that fails. x86-64 only.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import signal
from collections.abc import Callable

from bench.calls import NUMBERS, Calls, bound

_CLONE_VM, _CLONE_VFORK = 0x100, 0x4000  # linux/sched.h
#: arch/x86/entry/syscalls/syscall_64.tbl
_NUMBERS = {
    "read": 0,
    "open": 2,
    "close": 3,
    "chdir": 80,
    "fchdir": 81,
    "pivot_root": 155,
    "chroot": 161,
    "mount": 165,
    "umount2": 166,
    "openat": 257,
    "unshare": 272,
    "setns": 308,
    **NUMBERS,
}

#: int loop(struct call *call): 0, or 1 after a call that failed. It is a function of the C ABI, and
#: takes sixteen bytes of the stack.
_CODE = bytes.fromhex(
    "53"  #           push  %rbx
    "4889fb"  #       mov   %rdi, %rbx
    "488b03"  # next: mov   (%rbx), %rax        the number
    "4885c0"  #       test  %rax, %rax
    "7839"  #         js    done                -1: that was all
    "488b7b08488b3f"  # mov   8(%rbx), %rdi;  mov (%rdi), %rdi     each argument by its address
    "488b7310488b36"  # mov   16(%rbx), %rsi; mov (%rsi), %rsi
    "488b5318488b12"  # mov   24(%rbx), %rdx; mov (%rdx), %rdx
    "4c8b53204d8b12"  # mov   32(%rbx), %r10; mov (%r10), %r10
    "4c8b43284d8b00"  # mov   40(%rbx), %r8;  mov (%r8), %r8
    "0f05"  #         syscall
    "48894330"  #     mov   %rax, 48(%rbx)      the result
    "4883c338"  #     add   $56, %rbx
    "4885c0"  #       test  %rax, %rax
    "79c6"  #         jns   next
    "b801000000"  #   mov   $1, %eax
    "5b"  #           pop   %rbx
    "c3"  #           ret
    "31c0"  #   done: xor   %eax, %eax
    "5b"  #           pop   %rbx
    "c3"  #           ret
)
_ARGUMENTS = 5
_STACK = 4096


class _Call(ctypes.Structure):
    """A row of the table: 56 bytes."""

    _fields_ = (
        ("number", ctypes.c_long),
        ("arguments", ctypes.c_void_p * _ARGUMENTS),
        ("result", ctypes.c_long),
    )


class _Result(int):
    """Stands for the result of the call in row *self*."""


def missing() -> str:
    """Return why programs cannot be run on this machine; empty when they can."""
    if platform.machine() != "x86_64" or ctypes.sizeof(ctypes.c_long) != 8:
        return f"the machine code is for 64-bit x86, not {platform.machine()}"
    try:
        mmap.mmap(-1, len(_CODE), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError as error:
        return f"memory may not be made executable: {error.strerror}"
    return ""


class Program:
    """The system calls that a function makes, to be made again without it."""

    def __init__(self, function: Callable[[Calls], object]) -> None:
        """Record the calls of *function*; none is made. See :func:`missing` for where it can run.

        The results that it is given are good for arguments of later calls, and for nothing else.
        """
        self._names: list[str] = []
        found: list[tuple[object, ...]] = []

        def make(name: str) -> Callable[..., int]:
            def call(*arguments: object) -> int:
                self._names.append(name)
                found.append(arguments)
                return _Result(len(found) - 1)

            return call

        function(Calls(make))
        self._rows = (_Call * (len(found) + 1))()
        self._kept: list[object] = []
        for row, name, arguments in zip(self._rows, self._names, found, strict=False):
            row.number = _NUMBERS[name]
            given = (*arguments, *(0,) * (_ARGUMENTS - len(arguments)))
            row.arguments[:] = [self._address(argument) for argument in given]
        self._rows[len(found)].number = -1
        whole = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        self._code = mmap.mmap(-1, len(_CODE), flags=mmap.MAP_PRIVATE, prot=whole)
        self._code.write(_CODE)
        code = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._stack = ctypes.create_string_buffer(_STACK)
        top = (ctypes.addressof(self._stack) + _STACK) & ~15
        flags = _CLONE_VM | _CLONE_VFORK | signal.SIGCHLD
        first = ctypes.c_void_p(ctypes.addressof(self._rows))
        self._clone = bound("clone", "clone")
        self._clone_arguments = (ctypes.c_void_p(code), ctypes.c_void_p(top), int(flags), first)
        loop = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(code)
        self._run: Callable[[], int] = lambda: loop(first)

    def _address(self, argument: object) -> int:
        """Where the value of *argument* is, or will be."""
        if isinstance(argument, _Result):
            row = ctypes.addressof(self._rows) + argument * ctypes.sizeof(_Call)
            return row + _Call.result.offset
        if isinstance(argument, bytes):
            text = ctypes.create_string_buffer(argument)
            self._kept.append(text)
            argument = ctypes.addressof(text)
        if isinstance(argument, ctypes.Array | ctypes.Structure):
            self._kept.append(argument)
            argument = ctypes.addressof(argument)
        assert argument is None or isinstance(argument, int)
        cell = ctypes.c_long(argument or 0)
        self._kept.append(cell)
        return ctypes.addressof(cell)

    def run(self) -> None:
        """Make the calls in the calling process.

        :raises OSError: the kernel's, with the name of the call; those behind it are not made.
        """
        if self._run():
            self._fail()

    def run_in_child(self) -> None:
        """Make the calls in a child that shares the caller's memory, and wait until it has ended.

        :raises OSError: as :meth:`run`, or clone(2) failed.
        """
        pid = self._clone(*self._clone_arguments)
        if os.waitpid(pid, 0)[1]:
            self._fail()

    def _fail(self) -> None:
        """Raise the error of the call that failed: the child's memory is ours."""
        for name, row in zip(self._names, self._rows, strict=False):
            if row.result < 0:
                raise OSError(-row.result, f"{name}: {os.strerror(-row.result)}")
        raise OSError(errno.ECHILD, "clone: the child was killed")
