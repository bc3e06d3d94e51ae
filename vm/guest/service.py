# SPDX-License-Identifier: GPL-2.0-only
"""Runs in a complete system, as a service: pytest as whoever was asked for, reported to the host.

It does there what init.py does where there is no system: the report goes to a second serial line,
what to run stands in /vm/job.json. pytest is the system's own, started through su(1), so that it
runs in a session as of one who has logged in.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Any

sys.dont_write_bytecode = True
_LAUNCHER = "/vm/launcher"
if sys.path[0].startswith(_LAUNCHER):
    sys.path[0] = _LAUNCHER  # not this file's folder, whose modules' names hide others

from vm.guest.channel import Channel  # noqa: E402 - it lies where the line above points
from vm.guest.protocol import JOB, LAUNCHER, Kind  # noqa: E402

_DISTURBERS = f"{LAUNCHER}/vm/guest/disturb.py"
_DISTRIBUTIONS = ("pytest", "pytest-xdist", "pytest-timeout", "execnet", "pluggy")


def _output(*command: str) -> str:
    """Return what *command* prints, whatever its exit status."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    """Return the versions of pytest and its parts, as far as they are installed."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _as_login(user: str, *words: str) -> list[str]:
    """Return the command that runs *words* as *user*, in a login's session and environment."""
    return ["su", "--login", user, "--shell", "/bin/sh", "--command", f"exec {shlex.join(words)}"]


def _give(user: str, folder: str) -> None:
    """Make *folder* and all below it the user's own."""
    account = pwd.getpwnam(user)
    for path, _, names in os.walk(folder):
        for name in ("", *names):
            os.chown(os.path.join(path, name), account.pw_uid, account.pw_gid)


class Disturbers:
    """What goes on beside pytest: disturb.py, from its start to its report."""

    def __init__(self, order: dict[str, Any]) -> None:
        keys = ("user", "folder", "suite", "beside")
        words = json.dumps({key: order[key] for key in keys})
        self._process = subprocess.Popen(
            [sys.executable, _DISTURBERS, words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self._lines.readline()  # they have begun

    def end(self, channel: Channel) -> bool:
        """Have them end, send what came of each; whether all did what they are there for."""
        self._process.send_signal(signal.SIGTERM)
        reports = [json.loads(line) for line in self._lines]
        for report in reports:
            channel.send(Kind.TEXT, text=report["text"] + "\n")
            if report["bad"]:
                channel.send(Kind.RESULT, case=report["case"])
        return bool(reports) and not any(report["bad"] for report in reports)


def _run(order: dict[str, Any], share: str, channel: Channel, line: int) -> int:
    """Run pytest in a session of the user's, send on what it prints; its exit status."""
    from vm.guest import init

    source, output, wake, _ = init.pipes()
    child = subprocess.Popen(
        _as_login(order["user"], sys.executable, __file__, "pytest", str(line), share),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(line,),
    )
    os.close(output)
    return init.pump(channel, source, wake, child.pid)


def serve(order: dict[str, Any]) -> None:
    """Be the service: wait for the system, run pytest and tell the host."""
    from vm.guest import init

    words = init.told()
    line = init.open_raw(words["vm.report"])
    channel = Channel(line, order["nonce"], "init")
    try:
        state = _output("systemctl", "is-system-running", "--wait")
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
        environment = init.environment(_versions(), order["user"], system)
        times = init.started_at()
        channel.send(Kind.HELLO, drain=True, environment=environment, started=times)
        init.write("/proc/sys/kernel/printk", "8")  # from here the console has every message
        if state != "running":
            failed = _output("systemctl", "--failed", "--no-legend", "--plain")
            channel.send(Kind.TEXT, text=f"the system is {state}:\n{failed}\n")
        for path, text in order["files"].items():
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        _give(order["user"], order["folder"])
        disturbers = Disturbers(order) if order["beside"] else None
        status = _run(order, words["vm.share"], channel, line)
        if disturbers is not None and not disturbers.end(channel):
            status = status or 1
        if found := init.leaks():
            channel.send(Kind.TEXT, text=f"kmemleak: {found}\n")
        channel.send(Kind.END, drain=True, status=status)
        os.sync()
    except BaseException:
        traceback.print_exc()
    finally:
        init.end(words["vm.end"])


def run_pytest(order: dict[str, Any], line: int, share: str) -> int:
    """Run pytest in this process with the report to the descriptor *line*; its exit status."""
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    sys.path.insert(0, order["folder"])  # for tests.utils, as pytest itself will do
    sys.argv = ["pytest", *order["arguments"]]
    from vm.guest import reporter

    channel = Channel(line, order["nonce"], "program")
    channel.send(Kind.READY)
    return reporter.run(order["arguments"], channel, share, order["only"])


def main(words: Sequence[str]) -> None:
    """Be the service, or with `pytest DESCRIPTOR SHARE` the program it starts."""
    with open(JOB, encoding="utf-8") as file:
        order = json.load(file)
    if words[:1] == ["pytest"]:
        sys.exit(run_pytest(order, int(words[1]), words[2]))
    serve(order)


if __name__ == "__main__":
    main(sys.argv[1:])
