# SPDX-License-Identifier: GPL-2.0-only
"""Debian's archive and its suites, from the mirror that this machine uses."""

from __future__ import annotations

from collections.abc import Iterator

from vm.arch import Processor
from vm.distro import apt
from vm.errors import Exit, Problem


def _sites() -> list[str]:
    """Where this machine gets Debian packages from."""
    name, _ = apt.distribution()
    return [site for site, _, _ in apt.own_sites()] if name == "debian" else []


def is_known() -> bool:
    """Return whether this machine gets Debian packages from anywhere."""
    return bool(_sites())


def _site() -> str:
    sites = _sites()
    if not sites:
        raise Problem(
            "no Debian package source on this machine\nhint: give a kernel with --kernel PATH"
        )
    return next((site for site in sites if "security" not in site), sites[0])


def source(suite: str) -> str:
    """Return the line of sources.list(5) for *suite*. Raises Problem when there is none."""
    site = _site()
    state = apt.Apt(f"debian-{suite}", [(site, suite, "main")])
    try:
        state.update()
    except apt.Unreachable:
        raise
    except Problem as problem:
        raise Problem(
            f"{site} has no suite {suite}: {problem.what}\nhint: debian:trixie is one", Exit.USAGE
        ) from None
    return state.source


def state(suite: str, processor: Processor) -> tuple[apt.Apt, str]:
    """Return apt for the packages of *suite* for *processor*, its index fetched, and the suite's
    own name when *suite* is an alias.

    Raises Problem when there is no such suite, or no mirror can be reached.
    """
    site = _site()
    state = _apt(site, suite, processor)
    state.update()
    codename = state.codename()
    if codename and codename != suite:
        # Mirrors may lag behind with their aliases.
        own = _apt(site, codename, processor)
        try:
            own.update()
        except Problem:
            return state, suite
        return own, codename
    return state, suite


def _apt(site: str, suite: str, processor: Processor) -> apt.Apt:
    architecture = "" if processor.native else processor.debian
    return apt.Apt(f"debian-{suite}", [(site, suite, "main")], architecture)


def default_suites() -> Iterator[str]:
    """Yield the suites to look into for what is newer than the machine, the nearest first."""
    _, codename = apt.distribution()
    if codename:
        yield f"{codename}-backports"
    yield from ("stable-backports", "testing", "unstable")
