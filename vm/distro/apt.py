# SPDX-License-Identifier: GPL-2.0-only
"""Packages from the machine's own mirror, with apt's own programs and apt's own signatures.

Everything apt needs to remember lies in the cache: the machine's package lists and installed
packages are never written, nothing is installed, and no privilege is needed.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm import paths
from vm.errors import Problem
from vm.process import output
from vm.terminal import complain, say

#: Seconds for which a package index is taken as it is.
_FRESH = 7 * 24 * 3600
_KEYRINGS = Path("/usr/share/keyrings")
_INSTALL = ("-qq", "-y", "--no-install-recommends", "--print-uris", "install")


_UNREACHABLE = re.compile(r"Could not (connect|resolve)|timed out|Temporary failure|unreachable")
_UNTRUSTED = re.compile("NO_PUBKEY|is not signed|couldn't be verified")


class Unreachable(Problem):
    """The mirror does not answer, or cannot be trusted: it is of no use to ask it for something
    else."""


@dataclass(frozen=True)
class Package:
    """One version of a package."""

    name: str
    version: str
    #: Bytes of the .deb, 0 when the index does not tell.
    size: int


def megabytes(size: float) -> str:
    """Return a size for people."""
    return f"{size / 1e6:.1f} MB"


def distribution() -> tuple[str, str]:
    """Return (id, code name) of this machine's distribution, empty where it does not say."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "", ""
    return release.get("ID", ""), release.get("VERSION_CODENAME", "")


def _run(
    command: Sequence[str], folder: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run one of apt's programs; Problem with its first error line when it fails."""
    try:
        done = output(command, {"DEBIAN_FRONTEND": "noninteractive"}, folder)
    except FileNotFoundError:
        raise Problem(
            f"{command[0]} is missing, with which packages are fetched\n"
            "hint: install QEMU yourself, and name a kernel by --kernel PATH"
        ) from None
    if check and done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb:"))]
        if _UNTRUSTED.search(done.stderr) and not _keyring():
            name = f"{distribution()[0]}-archive-keyring"
            raise Unreachable(
                f"no {_KEYRINGS / name}.gpg, to check the mirror's signatures with\n"
                f"hint: install the package {name}"
            )
        words = (lines or [f"{command[0]} exited with status {done.returncode}"])[0]
        raise (Unreachable if _UNREACHABLE.search(words) else Problem)(words)
    return done


@functools.cache
def own_sites() -> list[tuple[str, str, str]]:
    """Return (site, release, component) of the distribution's own package sources on this
    machine."""
    _, codename = distribution()
    if not codename or shutil.which("apt-get") is None:
        return []
    form = "$(SITE) $(RELEASE) $(COMPONENT)"
    # Without the machine's package lists: slow to read, and on a fresh machine there are none.
    lists = "-oDir::State::Lists=/nonexistent"
    command = ["apt-get", lists, "indextargets", "--no-release-info", "--format", form]
    lines = _run([*command, "Created-By: Packages"]).stdout
    found = []
    for line in lines.splitlines():
        words = line.split()
        # A third party's source may well have a suite of that name's prefix, but not this one.
        if len(words) == 3 and re.fullmatch(rf"{codename}(-updates|-security)?", words[1]):
            entry = (words[0], words[1], words[2])
            if entry not in found:
                found.append(entry)
    return found


def _keyring() -> str:
    """The option that names the distribution's keyring, empty to leave it to apt's own."""
    name, _ = distribution()
    for suffix in ("gpg", "pgp"):
        path = _KEYRINGS / f"{name}-archive-keyring.{suffix}"
        if path.exists():
            return f"[signed-by={path}] "
    return ""


class Apt:
    """apt with a state of its own for one set of sources."""

    def __init__(
        self, name: str, sources: Iterable[tuple[str, str, str]], architecture: str = ""
    ) -> None:
        """*name* is the state's folder in the cache, *sources* are (site, suite, component).

        :param architecture: of the packages, where it is not this machine's own: of what they need
            nothing is then taken for installed.
        """
        name = f"{name}-{architecture}" if architecture else name
        self._folder = paths.cache() / "apt" / re.sub(r"[^A-Za-z0-9.-]", "_", name)
        self._sources = "".join(f"deb {_keyring()}{a} {b} {c}\n" for a, b, c in sources)
        #: As sources.list(5) has them.
        self.source = self._sources.rstrip()
        self._updated = self._folder / "updated"
        self._answers = self._folder / "answers.json"
        settings = {
            "Dir::State::Lists": self._folder / "lists",
            "Dir::Etc::SourceList": self._folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::Cache": self._folder,
            "Dir::Cache::srcpkgcache": "",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
            "Acquire::GzipIndexes": "true",
            "Acquire::Retries": "1",
            "Acquire::http::Timeout": "20",
            "Acquire::https::Timeout": "20",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
        }
        if architecture:
            settings["APT::Architecture"] = settings["APT::Architectures"] = architecture
            settings["Dir::State::status"] = "/dev/null"
        self._options = [f"-o{name}={value}" for name, value in settings.items()]

    @property
    def age(self) -> float | None:
        """Seconds since the index was fetched, None when it never was."""
        try:
            if (self._folder / "sources.list").read_text() != self._sources:
                return None
            return max(0.0, time.time() - self._updated.stat().st_mtime)
        except OSError:
            return None

    def update(self, force: bool = False) -> None:
        """Fetch the index, unless it is a few days old at most.

        Raises Problem when there is none and none can be had; an old one is good enough.
        """
        age = self.age
        if age is not None and age < _FRESH and not force:
            return
        (self._folder / "lists/partial").mkdir(parents=True, exist_ok=True)
        (self._folder / "archives/partial").mkdir(parents=True, exist_ok=True)
        (self._folder / "sources.list").write_text(self._sources)
        try:
            _run(["apt-get", *self._options, "-qq", "-oAPT::Update::Error-Mode=any", "update"])
        except Problem as problem:
            if age is None or force:
                raise
            complain(f"package index is {age / 86400:.0f} days old: {problem}")
            return
        self._answers.unlink(missing_ok=True)
        self._updated.touch()

    def _ask(self, program: str, *words: str, check: bool = True) -> str:
        """What *program* prints: asked once per index, as reading a large one takes a second."""
        key = " ".join([program, *words])
        try:
            known = json.loads(self._answers.read_text())
        except (OSError, ValueError):
            known = {}
        if key not in known:
            known[key] = _run([program, *self._options, *words], check=check).stdout
            draft = self._answers.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(known))
            draft.replace(self._answers)
        return str(known[key])

    def codename(self) -> str:
        """Return the name that the sources' release file gives to itself, empty when it gives
        none."""
        form = "$(CODENAME)"
        text = self._ask("apt-get", "indextargets", "--format", form, check=False)
        return next((line for line in text.split() if not line.startswith("$")), "")

    def names(self, prefix: str) -> list[str]:
        """Return names of the packages that begin with *prefix*."""
        return self._ask("apt-cache", "pkgnames", prefix).split()

    def package(self, name: str) -> Package:
        """Return the newest version of a package. Raises Problem when there is none."""
        text = self._ask("apt-cache", "show", "--no-all-versions", name)
        fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        if "Version" not in fields:
            raise Problem(f"no package {name}")
        return Package(name, fields["Version"], int(fields.get("Size", 0)))

    def missing(self, *names: str) -> list[Package]:
        """Return *names* and the packages they need that this machine lacks, recommendations left
        out."""
        done = _run(["apt-get", *self._options, *_INSTALL, *names])
        found = []
        for line in done.stdout.splitlines():
            if match := re.match(r"'[^']+' ([^_]+)_(\S+)_[^_]+\.deb (\d+)", line):
                version = match[2].replace("%3a", ":")
                found.append(Package(match[1], version, int(match[3])))
        return found

    def unpack(self, packages: Sequence[Package], folder: Path, what: str) -> None:
        """Download *packages* and unpack them below *folder*, saying so before."""
        size = megabytes(sum(package.size for package in packages))
        count = f"{len(packages)} packages" if len(packages) > 1 else packages[0].name
        say(f"downloading {what} ({count}, {size}) into the cache ...")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".deb-", dir=folder.parent) as name:
            wanted = [f"{package.name}={package.version}" for package in packages]
            _run(["apt-get", *self._options, "-qq", "download", *wanted], Path(name))
            debs = sorted(Path(name).glob("*.deb"))
            if len(debs) < len(packages):
                raise Problem(f"only {len(debs)} of {len(packages)} packages came\nhint: try again")
            for deb in debs:
                _run(["dpkg-deb", "-x", str(deb), str(folder)])
