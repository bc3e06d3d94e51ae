# SPDX-License-Identifier: GPL-2.0-only
"""`--build`: makes the kernel of a build tree, with the options that the cases and a guest need.

The developer's `.config` is read and never written: what is built has a configuration of its own
beside it (make's KCONFIG_CONFIG), made anew from `.config` and the fragments each time. So a
bisection starts from the same options at every commit, however many of them come and go between
versions, and --debug-kernel lasts for one run. Nothing is built twice: a configuration that comes
out as before is left alone, and make does the rest.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tests.utils import cgroups
from vm import paths
from vm.arch import ARCHITECTURES, Arch
from vm.errors import Exit, Problem
from vm.kernel import counting, kconfig, mirror
from vm.kernel.tree import NO_SOURCE, Tree, built
from vm.process import started
from vm.terminal import complain, say

_OWN = ".config.open_tree_ns"
_NEEDED = (
    "a kernel is built with make, a C compiler, flex, bison, bc and the headers of libelf and"
    " OpenSSL (Debian: apt install build-essential flex bison bc libelf-dev libssl-dev)"
)
_ERROR = re.compile(
    r"\berror: |undefined reference|multiple definition|: not found$|No such file or directory"
    r"|^\*\*\* \S|^make.*\*\*\* |^\S*Kconfig\S*:\d+:"
)
#: Words for what this machine lacks, at each commit alike, and what to do.
_HOSTS = {
    r"No space left on device|Disk quota exceeded": "make room on the disk",
    r"Killed signal terminated program|Cannot allocate memory|virtual memory exhausted": (
        "the compiler wants more memory than there is: give the machine, or the container, more"
    ),
    r"^/bin/\w*sh: .*: (?:command )?not found$|: C compiler '.*' not found$"
    r"|fatal error: (?:libelf|gelf|openssl/\w+)\.h:": (f"install what is missing; {_NEEDED}"),
}
#: Variables of make's that name another compiler.
_COMPILERS = ("CROSS_COMPILE", "LLVM", "CC")
#: Lines that are shown from the first error on.
_ERROR_LINES = 5
#: Seconds for make to take away what it has half made.
_TERM_WAIT = 10.0
#: Bytes of memory that a compiler may take.
_COMPILER = 512 << 20


def _compilers() -> Path | None:
    """A folder for the front of PATH in which the compilers are ccache; None without ccache.

    Under their own names: with CC="ccache gcc" each command line would differ from what the
    objects in the tree were made with, and all of them would be made again.
    """
    program = shutil.which("ccache")
    if program is None:
        return None
    folder = paths.cache() / "ccache"
    folder.mkdir(exist_ok=True)
    names = {"cc", "gcc", "clang", f"{os.environ.get('CROSS_COMPILE', '')}gcc"}
    for name in (name for name in names if "/" not in name):  # else PATH plays no part
        if shutil.which(name) is None:  # let make say so: ccache has other words for it
            (folder / name).unlink(missing_ok=True)
            continue
        # In place of a link to where ccache once was; builds side by side agree on the target.
        draft = folder / f".{name}-{os.getpid()}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(program)
        draft.replace(folder / name)
    return folder


def _config(tree: Tree) -> Path:
    """The configuration that is built with."""
    return tree.objects / (".config" if tree.ours else _OWN)


def command(tree: Tree, target: str, config: str, counted: Sequence[str] = ()) -> list[str]:
    """make for *target*, with the configuration file *config* in the tree.

    :param counted: files of the source whose objects are to count which of their lines run.
    """
    elsewhere = [] if tree.objects == tree.source else [f"O={tree.objects}"]
    jobs = max(1, min(cgroups.processors(), cgroups.memory() // _COMPILER))
    return [
        *("make", "-C", str(tree.source), *elsewhere, f"ARCH={tree.arch}"),
        *(f"KCONFIG_CONFIG={config}", f"-j{jobs}"),
        # By the name without the folder, as scripts/Makefile.lib has it.
        *sorted({f"GCOV_PROFILE_{Path(name).stem}.o=y" for name in counted}),
        *([f"CFLAGS_GCOV={' '.join(counting.flags())}"] if counted else []),
        target,
    ]


def described(tree: Tree, counted: Sequence[str] = ()) -> str:
    """Return the command that builds, for people."""
    target = ARCHITECTURES[tree.arch].target
    return shlex.join(command(tree, target, _config(tree).name, counted))


class _Make:
    """Runs make, with all it prints in a log."""

    def __init__(self, tree: Tree, log: BinaryIO, counted: Sequence[str]) -> None:
        self._tree = tree
        self._counted = counted
        self._log = log
        self._shown = 0.0
        self._steps = 0
        folder = _compilers()
        path = [str(folder)] if folder else []
        self._environment = {
            "LC_ALL": "C",
            "PATH": os.pathsep.join([*path, os.environ.get("PATH", os.defpath)]),
            "KBUILD_OUTPUT": "",
            "KCONFIG_OVERWRITECONFIG": "1",  # no .old beside it
        }

    def __call__(self, target: str, config: str) -> None:
        """Make *target*. Raises Problem, after the first error's lines, when that fails."""
        line = command(self._tree, target, config, self._counted)
        start = self._log.tell()
        self._log.write(f"$ {shlex.join(line)}\n".encode())
        # Killed outright, make would leave half an object, newer than its source.
        polite = signal.SIGTERM
        with started(
            line, environment=self._environment, stderr=subprocess.STDOUT, ending=polite
        ) as program:
            process = program.process
            try:
                assert process.stdout is not None
                for output in process.stdout:
                    self._log.write(output)
                    self._progress(output.decode(errors="replace"))
                status = process.wait()
            except BaseException:
                program.send(polite)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_TERM_WAIT)
                raise
            finally:
                self._progress("")
        if status:
            self._fail(target, start)

    def _progress(self, line: str) -> None:
        """On a terminal one line that is written over; an empty *line* clears it."""
        if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            return
        now = time.monotonic()
        self._steps += 1
        if not line or now - self._shown > 0.1:
            self._shown = now
            width = shutil.get_terminal_size().columns - 1
            text = f"{self._steps}: {line.strip()}" if line else ""
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)

    def _fail(self, target: str, start: int) -> None:
        self._log.flush()
        path = Path(self._log.name)
        lines = path.read_bytes()[start:].decode(errors="replace").splitlines()
        at = next((n for n, line in enumerate(lines) if _ERROR.search(line)), len(lines) - 1)
        for line in lines[at : at + _ERROR_LINES]:
            say(f"  {line}")
        what = f"{self._tree.source}: make {target} failed; its output: {path}"
        text = "\n".join(lines)
        for words, hint in _HOSTS.items():
            if re.search(words, text, re.M):
                raise Problem(f"{what}\nhint: {hint}", Exit.HOST)
        raise Problem(what, Exit.NOT_BOOTED)


def _fragments(tree: Tree, debug: bool) -> list[Path]:
    more = [kconfig.DEBUG] * debug + [kconfig.COVERAGE] * (tree.first is not None)
    return [kconfig.CASES, kconfig.guest(tree.arch), *more]


def _configure(tree: Tree, make: _Make, ours: Sequence[Path], theirs: Sequence[Path]) -> Path:
    """Bring the configuration that is built with up to date: *ours* laid over it, then *theirs*."""
    config = _config(tree)
    draft = config.with_name(f"{_OWN}.new")
    try:
        if tree.theirs:
            shutil.copyfile(tree.theirs, draft)
        else:
            make(ARCHITECTURES[tree.arch].defconfig, draft.name)
        before = kconfig.read(draft)
        texts = [fragment.read_text() for fragment in (*ours, *theirs)]
        draft.write_text(kconfig.over(draft.read_text(), texts))
        make("olddefconfig", draft.name)
        after = kconfig.read(draft)
        if not config.exists() or config.read_bytes() != draft.read_bytes():
            draft.replace(config)
    finally:
        draft.unlink(missing_ok=True)
    wanted = kconfig.options("\n".join(texts))
    for path in theirs:
        _name_dropped(path, after, wanted)
        wanted = {name: value for name, value in wanted.items() if name not in kconfig.read(path)}
    _say(tree, before, after, wanted)
    return config


def _name_dropped(path: Path, after: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Tell which options of the user's fragment *path* did not come out as it has them."""
    dropped = [
        f"CONFIG_{name} (wanted {value}, is {after.get(name, 'n')})"
        for name, value in kconfig.read(path).items()
        if after.get(name, "n") != value == wanted.get(name)  # else a later one wants another
    ]
    if dropped:
        complain(
            f"--kconfig {path}: did not stick: {', '.join(dropped)}\n"
            "hint: they are not known to this kernel, or depend on options that are off"
        )


def _say(
    tree: Tree, before: Mapping[str, str], after: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    """Tell what our fragments changed in somebody's configuration, and what they could not."""
    lacking = kconfig.missing(after, wanted)
    changed = [name for name in kconfig.missing(before, wanted) if name not in lacking]
    if tree.theirs and changed:
        say(f"options changed for this build: {', '.join(changed)} ({tree.theirs} stays as it is)")
    if lacking:
        say(
            f"kconfig dropped these options: {', '.join(lacking)} (unknown to this kernel, or a"
            " dependency is off)"
        )


def _renew(tree: Tree, config: Path) -> None:
    """Have the next make take its options from *config*, if those it last built with are others.

    make itself compares times, and of one file: it knows nothing of a second configuration.
    """
    last = {name: value.strip('"') for name, value in built(tree).items()}
    options = {k: v.strip('"') for k, v in kconfig.read(config).items() if v != "n"}
    if options != last:
        os.utime(config)


def _require_compiler(arch: Arch) -> None:
    """Raise Problem where make would take this machine's compiler for another processor."""
    if not arch.processor.native and not any(map(os.environ.get, _COMPILERS)):
        raise Problem(
            f"--build: {arch.text} kernel: this machine's compiler is for {os.uname().machine}\n"
            f"hint: set CROSS_COMPILE={arch.processor.cross} (Debian: apt install"
            f" gcc-{arch.processor.cross.rstrip('-')}), or LLVM=1"
        )


def build(
    tree: Tree,
    debug: bool,
    log: Path,
    fragments: Sequence[Path] = (),
    counted: Sequence[str] = (),
) -> None:
    """Build the kernel in *tree*, with the debugging options if *debug*; make's output to *log*.

    The user's *fragments* are laid over all options, a later one over an earlier. Objects of
    *counted*, files of the source, count which of their lines run; that is for a second tree.

    :raises Problem: it cannot be built.
    """
    if tree.source is None:
        raise Problem(f"{tree.objects}: {NO_SOURCE}")
    if shutil.which("make") is None:
        raise Problem(f"make is missing\nhint: {_NEEDED}")
    _require_compiler(ARCHITECTURES[tree.arch])
    target, begin = ARCHITECTURES[tree.arch].target, time.monotonic()
    tree.objects.mkdir(parents=True, exist_ok=True)
    with paths.changing(tree.objects), log.open("wb") as file:
        say(f"building {target} in {tree.objects} (make's output: {log}) ...")
        if tree.first is not None and tree.first.source is not None:
            mirror.refresh(tree.first.source, tree.objects)
        make = _Make(tree, file, counted)
        config = _configure(tree, make, _fragments(tree, debug), fragments)
        if tree.first is not None:
            counting.require(kconfig.read(config))
        try:
            _renew(tree, config)
            make(target, config.name)
        finally:
            if tree.theirs and tree.first is None:
                _renew(tree, tree.theirs)
    say(f"built in {time.monotonic() - begin:.0f} s")
