# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest as process 1 until the system of a disk takes over: the initramfs's /init.

Debian's kernels have the drivers of disks as modules. So the disk is mounted from here, with the
launcher's own Python; the checkout and what runs it are copied to it, and its /sbin/init becomes
process 1 in surroundings as any initramfs leaves them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from contextlib import suppress

sys.dont_write_bytecode = True
sys.path[:0] = ["/vm/launcher"]

from vm.guest import init  # noqa: E402 - it lies where the line above points
from vm.guest.protocol import CHECKOUT, JOB, LAUNCHER, TOP, load  # noqa: E402

_ROOT = "/disk"
#: The disk under QEMU and under User-Mode Linux.
_DISKS = ("/dev/vda", "/dev/ubda")
#: Seconds for the driver to find the disk.
_DISK_TIMEOUT = 10.0
#: Copied to the disk.
_COPIED = (LAUNCHER, CHECKOUT, JOB)
_UNIT = "/etc/systemd/system/open-tree-namespace-tests.service"
_WANTS = "/etc/systemd/system/multi-user.target.wants"
_MS_MOVE = 8192
_libc = ctypes.CDLL(None, use_errno=True)


def find_disk() -> str:
    """Return the disk's device. Raises SystemExit when the kernel has none."""
    end = time.monotonic() + _DISK_TIMEOUT
    while time.monotonic() < end:
        for path in _DISKS:
            if os.path.exists(path):
                return path
        time.sleep(0.05)
    raise SystemExit(
        "vm: the kernel shows no disk: it needs VIRTIO_BLK and VIRTIO_PCI (BLK_DEV_UBD in"
        " User-Mode Linux), built in or as modules that lie where it does"
    )


def mount_disk(device: str) -> None:
    """Mount the system's file system. Raises SystemExit when that fails."""
    os.mkdir(_ROOT)
    if _libc.mount(device.encode(), _ROOT.encode(), b"ext4", 0, None):
        text = os.strerror(ctypes.get_errno())
        raise SystemExit(f"vm: {device} cannot be mounted: {text} (the kernel needs EXT4_FS)")


def copy() -> None:
    """Put the checkout, and the service that runs it, on the disk."""
    for path in _COPIED:
        to = _ROOT + path
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if os.path.isdir(path):
            # The byte code is another Python's.
            shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, to)
    shutil.copy(f"{TOP}/service", _ROOT + _UNIT)
    os.makedirs(_ROOT + _WANTS, exist_ok=True)
    os.symlink(_UNIT, f"{_ROOT}{_WANTS}/{os.path.basename(_UNIT)}")


def clear() -> None:
    """Remove the initramfs's files, which nothing can reach any more and which take memory."""
    device = os.lstat("/").st_dev
    for path, folders, files in os.walk("/", topdown=True):
        folders[:] = [name for name in folders if os.lstat(f"{path}/{name}").st_dev == device]
        for name in files:
            with suppress(OSError):
                os.unlink(f"{path}/{name}")


def move_root() -> None:
    """Make the disk the root, as switch_root(8) does."""
    os.chdir(_ROOT)
    if _libc.mount(b".", b"/", None, _MS_MOVE, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), _ROOT)
    os.chroot(".")
    os.chdir("/")


def main() -> None:
    """Load the modules, mount the disk, copy, and become its process 1."""
    init.mount("devtmpfs", "/dev")
    init.begin()
    for path in load().modules:
        if error := init.load(path):
            print(f"module {os.path.basename(path)} not loaded: {error}", flush=True)
    mount_disk(find_disk())
    copy()
    clear()
    os.umask(0o022)
    if _libc.umount2(b"/dev", 2):  # MNT_DETACH; the system mounts its own
        print("vm: /dev stays mounted", flush=True)
    move_root()
    os.execve("/sbin/init", ["/sbin/init"], {})


if __name__ == "__main__":
    main()
