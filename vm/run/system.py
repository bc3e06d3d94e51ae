# SPDX-License-Identifier: GPL-2.0-only
"""Complete systems to boot a kernel in: built from a distribution's packages, kept in the cache.

mmdebstrap builds them, itself taken from a package and not installed. The result is an ext4 file
system in a file, which no run changes: what a guest writes is thrown away with it. The initramfs
that goes with it has the launcher's Python, the kernel's drivers of disks, and the checkout.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vm import paths
from vm.distro import apt, archive
from vm.errors import Exit, Problem
from vm.guest.protocol import CHECKOUT, LAUNCHER, PROJECT, TOP, Job
from vm.initramfs import rootfs
from vm.initramfs.cpio import Archive
from vm.initramfs.python import Runtime
from vm.kernel import modules
from vm.process import output
from vm.terminal import say

#: Modules for the guest, by name: what makes the disk, and what a system without udev rules for
#: them would load when it needs them.
MODULES = ("virtio_blk", "ext4", "autofs4", "binfmt_misc", *modules.NEEDED)
#: What of the launcher's guest folder belongs to the cases: another checkout's are reported by its
#: own; with the names that it had before there was such a folder.
_REPORTING = {"channel": "guest_channel", "reporter": "guest_report"}
_SUITE = "trixie"
_SPEC = re.compile(r"debian(?::([a-z][a-z0-9.-]*))?")
_PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod", "bubblewrap"),
    *("python3", "python3-pytest", "python3-pytest-xdist", "python3-pytest-timeout"),
)
#: Nothing in a test reads them.
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
#: Bytes: of the file system, most of it a hole in the file, and what building takes on the disk.
_SIZE, _ROOM = 4 << 30, 2 << 30
#: Where programs of root's lie, which an ordinary user's PATH lacks.
_SBIN = "/usr/sbin:/sbin"
#: Run by mmdebstrap's shell with the tree as $1. The tree is taken through a mount of its own,
#: which leaves out /proc and the like where they are mounted on it.
_ACCOUNTS = """
for name in user visitor; do
    chroot "$1" useradd --create-home --shell /bin/bash "$name"
done
chroot "$1" systemd-machine-id-setup
echo guest >"$1/etc/hostname"
"""
_IMAGE = """
mount --bind "$1" "$TREE" 2>/dev/null || TREE=$1
"$MKE2FS" -q -F -t ext4 -L root -d "$TREE" "$DISK"
"""
_SERVICE = """[Unit]
Description=The kernel cases of open_tree(OPEN_TREE_NAMESPACE)
After=multi-user.target

[Service]
ExecStart=/usr/bin/python3 {guest}/launcher/vm/guest/service.py
StandardOutput=journal+console
"""


@dataclass(frozen=True)
class System:
    """A complete system: which one, and what is to happen in it."""

    suite: str
    #: The checkout whose cases run.
    checkout: Path = paths.ROOT
    #: What goes on beside pytest, by the names in vm/guest/disturb.py.
    beside: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"debian:{self.suite}"


def parse(text: str) -> str:
    """Return the suite that *text* names. Raises Problem when it is none."""
    match = _SPEC.fullmatch(text)
    if match is None:
        raise Problem(
            f"--system {text}: not a system that can be built here\n"
            "hint: write debian[:SUITE], such as debian:trixie",
            Exit.USAGE,
        )
    return match[1] or _SUITE


def disk(suite: str) -> Path:
    """Return where the file system of *suite* lies, or will."""
    recipe = repr((_PACKAGES, _LEFT_OUT, _SIZE, _ACCOUNTS, _IMAGE))
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return paths.cache() / "systems" / f"debian-{suite}-{key}" / "root.ext4"


def obtain(suite: str) -> Path:
    """Return the file system of *suite*, built when the cache lacks it.

    Raises Problem when it cannot be built: no such suite, a program is missing, no room.
    """
    path = disk(suite)
    with paths.locked("systems"):
        if not path.exists():
            paths.entry(path.parent, lambda draft: _build(suite, draft))
            for old in path.parent.parent.glob(f"debian-{suite}-*"):
                if old != path.parent:  # by another recipe; a guest that has it open keeps it
                    shutil.rmtree(old)
    return path


def _tool(name: str, package: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), _SBIN]))
    if found is None:
        raise Problem(f"--system: {name} is missing\nhint: install {package}")
    return found


def _require_privilege() -> None:
    """Raise Problem when this user cannot own the files of a system."""
    if os.getuid() and not all(map(shutil.which, ("newuidmap", "newgidmap"))):
        raise Problem(
            "--system: it is built as root, or with newuidmap(1), which is missing\n"
            "hint: install uidmap and give this user a range in /etc/subuid and /etc/subgid, or"
            " run this once as root with the same XDG_CACHE_HOME"
        )


def _require_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        raise Problem(
            f"--system: {folder} has {apt.megabytes(free)} free, building takes"
            f" {apt.megabytes(_ROOM)}\nhint: make room there, or set"
            f" {'XDG_CACHE_HOME' if folder.is_relative_to(paths.cache()) else 'TMPDIR'}"
        )


def _build(suite: str, draft: Path) -> None:
    """Build the file system of *suite* as `root.ext4` in the new folder *draft*."""
    perl, mke2fs = _tool("perl", "perl"), _tool("mke2fs", "e2fsprogs")
    unshare = _tool("unshare", "util-linux")
    _require_privilege()
    source = archive.source(suite)
    draft.mkdir()
    # Not in /tmp, which is often memory; not in the cache, which a mapped root cannot reach.
    temporary = Path(os.environ.get("TMPDIR", "/var/tmp"))
    for folder in (draft, temporary):
        _require_room(folder)
    own = apt.Apt("own", apt.own_sites())
    own.update()
    with tempfile.TemporaryDirectory(prefix="vm-system-", dir=temporary) as name:
        work = Path(name)
        own.unpack([own.package("mmdebstrap")], work / "program", "mmdebstrap")
        image, tree = work / "root.ext4", work / "tree"
        with image.open("wb") as file:
            file.truncate(_SIZE)
        tree.mkdir()
        for path, mode in ((work, 0o755), (image, 0o666), (tree, 0o777)):
            path.chmod(mode)  # for a root who is a mapped user
        programs = work / "program/usr/bin"
        command = [
            *(perl, str(programs / "mmdebstrap"), "--quiet", "--variant=important"),
            *("--format=null", f"--include={','.join(_PACKAGES)}"),
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
            *(f"--customize-hook={hook}" for hook in (_ACCOUNTS, _IMAGE)),
            *(suite, "/dev/null", source),
        ]
        if not os.getuid():
            command[:0] = [unshare, "--mount"]  # what it mounts is nobody else's business
        say(f"building a system of debian:{suite}, which takes a minute or more ...")
        _run(
            command,
            {
                "PATH": os.pathsep.join([str(programs), os.environ["PATH"], _SBIN]),
                "TMPDIR": str(work),
                "TREE": str(tree),
                "MKE2FS": mke2fs,
                "DISK": str(image),
            },
        )
        subprocess.run(["cp", "--sparse=always", image, draft / "root.ext4"], check=True)


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = output(command, environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Can't"))]
        why = (lines or [f"mmdebstrap exited with status {done.returncode}"])[0]
        raise Problem(
            f"--system: {why}\nhint: try again when the mirror answers; all that mmdebstrap said:\n"
            f"{done.stderr.rstrip()}"
        )


def job(whole: Job, system: System) -> Job:
    """Return *whole*, the job of an ordinary run, as one for *system*."""
    own = ("HOME", "LANG", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "USER")
    return replace(
        whole,
        folder=CHECKOUT,
        environment={name: text for name, text in whole.environment.items() if name not in own},
        beside=list(system.beside),
        # In the same words, beside it: without the one thing that both would write.
        suite=["-p", "no:cacheprovider", *whole.arguments],
    )


def write(
    image: Path,
    runtime: Runtime,
    job: Job,
    drivers: Mapping[str, bytes],
    system: System,
) -> None:
    """Write the initramfs that mounts the disk, copies the checkout and the *job* to it and
    starts it; *drivers* are the kernel's modules, in the order to load them."""
    with tempfile.NamedTemporaryFile(prefix="vm-", suffix=".cpio") as file:
        _write_own(Path(file.name), runtime, system)
        rootfs.join(image, (rootfs.base(runtime), Path(file.name)), job, drivers)


def _write_own(path: Path, runtime: Runtime, system: System) -> None:
    mine = rootfs.guest_files()
    with path.open("wb") as stream:
        archive = Archive(stream)
        init = mine[f"{LAUNCHER}/vm/guest/switch_root.py"].read_bytes()
        archive.file("/init", rootfs.shebang(runtime) + init, 0o755)
        archive.file(f"{TOP}/service", _SERVICE.format(guest=TOP).encode())
        for name, file in mine.items():
            archive.file(name, _reporting(file, system) or file.read_bytes())
        for name, file in sorted(rootfs.project_files(system.checkout).items()):
            archive.file(name.replace(PROJECT, CHECKOUT, 1), file.read_bytes())
        archive.close()


def _reporting(file: Path, system: System) -> bytes:
    """Return the checkout's own version of *file*, empty when it has none or needs none."""
    if file.stem in _REPORTING:
        vm = system.checkout / "vm"
        for theirs in (vm / "guest" / file.name, vm / f"{_REPORTING[file.stem]}.py"):
            if theirs.is_file():
                return theirs.read_bytes().replace(b"vm.guest_channel", b"vm.guest.channel")
    return b""
