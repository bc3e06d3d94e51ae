# SPDX-License-Identifier: GPL-2.0-only
"""Runs in a complete system, beside pytest: what else goes on on a machine in use.

Each disturber is a loop of its own: a command that mounts, unmounts, or makes and keeps mount
namespaces, as logins, services, containers and other test runs do; then a pause. `suite` is pytest
once more: what fails in it fails the run. The others must work, or the run proves nothing: one
that never came to its end fails the run too.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

#: Where they mount.
_FOLDER = "/run/beside"
#: Logs in, and is logged out again; not the one that pytest runs as.
_VISITOR = "visitor"
#: The shell's commands; three are done in this process.
COMMANDS = {
    # A session: the user's own systemd, and a tmpfs on /run/user/UID that goes with it.
    "login": f"su --login {_VISITOR} --command true && loginctl terminate-user {_VISITOR}",
    # Mounts on /run/credentials/UNIT.
    "credentials": "systemd-run --quiet --wait --property=SetCredential=secret:value true",
    # What clears /tmp, with systemd's own credentials and a mount namespace.
    "tmpfiles": "systemctl start systemd-tmpfiles-clean.service",
    # A mount namespace that a file keeps.
    "namespace": f"unshare --mount={_FOLDER}/namespace true && umount {_FOLDER}/namespace",
    "mounts": (
        f"mount -t tmpfs beside {_FOLDER}/tmpfs && mount --bind / {_FOLDER}/tmpfs"
        f" && umount {_FOLDER}/tmpfs && umount {_FOLDER}/tmpfs"
    ),
    # A container without privileges.
    "bubblewrap": (
        f"setpriv --reuid={_VISITOR} --regid={_VISITOR} --init-groups"
        " bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-pid true"
    ),
    # Who reads a mount table holds its namespace meanwhile. Processes may have ended.
    "monitor": "cat /proc/[0-9]*/mountinfo >/dev/null 2>&1; true",
    # Descriptors of mount namespaces, four seconds of every six.
    "holder": "",
    # From one mount namespace to the next, each held for a moment, as lsns(8) goes.
    "neighbours": "",
    # pytest once more.
    "suite": "",
}
#: The pause after a round is so many times what the round took, that machines of any speed have
#: time for pytest; at least so many seconds, as systemd starts nothing five times in ten seconds.
_REST, _LEAST = 4.0, {"login": 3.0, "tmpfiles": 3.0}
#: Seconds for those that do not follow that.
_PAUSES = {"mounts": 0.5, "holder": 2.0, "neighbours": 0.05, "suite": 0.0}
#: The holder's: how many, and for how many seconds.
_HELD, _HOLDING = 4, 4.0
#: Seconds that each neighbour is looked at.
_LOOKING = 0.01
#: <linux/nsfs.h>: _IOR(0xb7, 11, struct mnt_ns_info), and the size of that.
_NS_MNT_GET_NEXT, _INFO = 0x8010B70B, 16
#: <asm/unistd_64.h>, <linux/fcntl.h>, <linux/mount.h>.
_OPEN_TREE, _AT_FDCWD, _NAMESPACE, _CLOEXEC = 428, -100, 2, os.O_CLOEXEC
#: Characters of a failed command's output that are passed on.
_MOST = 20_000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Disturber:
    """One loop, and what came of it."""

    name: str
    act: Callable[[], str]
    rounds: int = 0
    #: What the rounds that failed printed.
    failures: list[str] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def loop(self) -> None:
        """Act and pause until it is to end."""
        while not self.ending.is_set():
            begin = time.monotonic()
            error = self.act()
            self.rounds += 1
            if error:
                self.failures.append(error)
            rest = max(_LEAST.get(self.name, 0.2), _REST * (time.monotonic() - begin))
            self.ending.wait(_PAUSES.get(self.name, rest))

    @property
    def bad(self) -> bool:
        """Whether the run must not pass because of it."""
        enough = 1 if self.name == "suite" else self.rounds
        return not self.rounds or len(self.failures) >= enough

    def report(self) -> str:
        """Return what came of it, as a line of JSON for service.py."""
        text = f"beside: {self.name}: {self.rounds} rounds, {len(self.failures)} failed"
        shown = "\n".join(self.failures if self.name == "suite" else self.failures[-1:])
        case = {"id": f"beside/{self.name}", "outcome": "failed", "reason": text, "text": shown}
        shown = f"{text}\n{shown}" if shown else text
        return json.dumps({"text": shown, "bad": self.bad, "case": case})


def command(text: str) -> str:
    """Run *text* by the shell; what it printed when it fails, else nothing."""
    done = subprocess.run(
        ["sh", "-c", text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if not done.returncode:
        return ""
    output = done.stdout.decode(errors="replace")[-_MOST:]
    return f"status {done.returncode}: {output}"


def hold() -> str:
    """Hold new mount namespaces by descriptors for a while; the error's text."""
    held = []
    try:
        for _ in range(_HELD):
            fd = _libc.syscall(_OPEN_TREE, _AT_FDCWD, b"/", _NAMESPACE | _CLOEXEC)
            if fd < 0:
                return f"open_tree: {os.strerror(ctypes.get_errno())}"
            held.append(fd)
        time.sleep(_HOLDING)
    finally:
        for fd in held:
            os.close(fd)
    return ""


def walk() -> str:
    """Go from this mount namespace to the last one after it; the error's text."""
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            following = fcntl.ioctl(fd, _NS_MNT_GET_NEXT, bytearray(_INFO))
            os.close(fd)
            fd = following
            time.sleep(_LOOKING)
    except OSError as error:
        # ENOENT: it was the last.
        return "" if error.errno == errno.ENOENT else f"NS_MNT_GET_NEXT: {error.strerror}"
    finally:
        os.close(fd)


def suite(user: str, folder: str, words: list[str]) -> str:
    """Run pytest as *user*; its report when a case fails."""
    line = f"cd {shlex.quote(folder)} && exec python3 -m pytest {shlex.join(words)}"
    return command(shlex.join(["su", "--login", user, "--shell", "/bin/sh", "--command", line]))


def prepare() -> None:
    """Make the places to mount on, in a mount that does not propagate: unshare(1) asks for it."""
    for name in ("", "/tmpfs"):
        os.makedirs(_FOLDER + name, exist_ok=True)
    with open(f"{_FOLDER}/namespace", "w", encoding="ascii"):
        pass
    if error := command(f"mount --bind {_FOLDER} {_FOLDER} && mount --make-private {_FOLDER}"):
        raise SystemExit(f"beside: {error}")


def main() -> None:
    """Disturb until SIGTERM, then report: `disturb.py ORDER`, JSON with user, folder, suite
    (pytest's words) and beside (names)."""
    order = json.loads(sys.argv[1])
    prepare()
    acts: dict[str, Callable[[], str]] = {
        name: lambda text=text: command(text)  # type: ignore[misc]
        for name, text in COMMANDS.items()
    }
    acts["holder"] = hold
    acts["neighbours"] = walk
    acts["suite"] = lambda: suite(order["user"], order["folder"], order["suite"])
    disturbers = [Disturber(name, acts[name]) for name in order["beside"]]
    threads = {one.name: threading.Thread(target=one.loop) for one in disturbers}
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    for thread in threads.values():
        thread.start()
    print(flush=True)
    signal.sigwait([signal.SIGTERM])
    # The suite comes to its end while the others still disturb it.
    for one in sorted(disturbers, key=lambda one: one.name != "suite"):
        one.ending.set()
        if one.name == "suite":
            threads[one.name].join()
    for thread in threads.values():
        thread.join()
    for one in disturbers:
        print(one.report(), flush=True)


if __name__ == "__main__":
    main()
