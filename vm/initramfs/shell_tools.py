# SPDX-License-Identifier: GPL-2.0-only
"""The programs that go into a guest for `python3 -m vm shell`: the host's own shell and some more.

They are taken as they are installed here, with the libraries they need; what is not installed is
not there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from vm import paths
from vm.errors import Problem
from vm.initramfs import libraries
from vm.initramfs.cpio import Archive
from vm.initramfs.python import Runtime

#: The better one to type at first.
_SHELLS = ("bash", "sh")
_PROGRAMS = (
    *("sh", "ls", "cat", "cp", "mv", "rm", "mkdir", "rmdir", "ln", "chmod", "chown", "touch"),
    *("stat", "readlink", "head", "tail", "sort", "uniq", "wc", "cut", "tr", "tee", "env", "id"),
    *("sleep", "date", "uname", "df", "du", "find", "xargs", "grep", "sed", "awk", "diff", "od"),
    *("true", "false", "mknod", "dd", "truncate", "seq", "timeout", "ps", "kill", "dmesg", "less"),
    *("mount", "umount", "findmnt", "mountpoint", "unshare", "nsenter", "setpriv", "lsns"),
    *("strace", "stty", "tty", "clear", "hostname", "chroot", "pivot_root", "getfattr", "setfattr"),
)
#: Where to look before PATH, which may have scripts of the same names in front.
_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_TERMINFO = ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo")


def _found() -> dict[str, Path]:
    """The programs by their names."""
    folders = os.pathsep.join([*_FOLDERS, os.environ.get("PATH", "")])
    found = {}
    for name in dict.fromkeys((*_SHELLS, *_PROGRAMS)):
        path = shutil.which(name, os.R_OK | os.X_OK, folders)
        if path and libraries.is_elf(Path(path)):
            found[name] = Path(path)
    return found


def shell() -> str:
    """Return where the shell to type at lies in a guest. Raises Problem when this machine has
    none."""
    found = _found()
    name = next((name for name in _SHELLS if name in found), "")
    if not name:
        raise Problem(
            "no bash and no sh on PATH: a guest is given this machine's shell\nhint: install bash"
        )
    return f"/usr/bin/{name}"


def archive(runtime: Runtime) -> Path:
    """Return the cached archive of them, made when it is missing."""
    found = {name: path.resolve() for name, path in _found().items()}
    parts: list[object] = [str(runtime.executable), Path(__file__).read_text(), _terminal()]
    for name, path in found.items():
        info = path.stat()
        parts.append((name, str(path), info.st_size, info.st_mtime_ns))
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    with paths.locked("tools"):
        path = paths.cache() / "tools" / f"{key}.cpio"
        paths.entry(path, lambda draft: _write(draft, found, runtime))
    return path


def _write(draft: Path, found: dict[str, Path], runtime: Runtime) -> None:
    required = found[Path(shell()).name]
    needed, dropped = libraries.needed(required, set(found.values()) - {required})
    with draft.open("wb") as stream:
        out = Archive(stream)
        for library in sorted(needed):
            real = os.path.realpath(library)
            out.file(real, Path(real).read_bytes(), 0o755)
            if real != library:
                out.symlink(library, real)
        for name, path in found.items():
            if path not in dropped:
                # One program may go by several names, and tell by them what it is to do.
                out.file(str(path), path.read_bytes(), 0o755)
                if str(path) != f"/usr/bin/{name}":
                    out.symlink(f"/usr/bin/{name}", str(path))
        out.symlink("/bin/sh", "/usr/bin/sh")
        out.symlink("/usr/local/bin/python3", str(runtime.executable))
        start = f'#!/usr/bin/sh\nexec {runtime.executable} -m pytest "$@"\n'
        out.file("/usr/local/bin/pytest", start.encode(), 0o755)
        for folder in _TERMINFO:
            _terminfo(out, Path(folder))
        out.close()


def _terminal() -> str:
    """What the user's terminal is called."""
    return os.environ.get("TERM", "")


def _terminfo(out: Archive, folder: Path) -> None:
    """What is known here of that terminal, where the libraries will look for it."""
    name = _terminal()
    for path in (folder / name[:1] / name, folder / f"{ord(name[:1] or 'x'):x}" / name):
        if name and path.is_file():
            out.file(str(path), path.read_bytes())
