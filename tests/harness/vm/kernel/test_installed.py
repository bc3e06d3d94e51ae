# SPDX-License-Identifier: GPL-2.0-only
"""The running kernel: where each distribution has its image and modules, and when it is the
default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness.helpers.images import RELEASE, bzimage
from tests.harness.helpers.packages import COMPRESS
from tests.utils.probes import flag
from tests.utils.probes.flag import Probe, Support
from vm.arch import X86_64
from vm.commands import main
from vm.distro import apt
from vm.errors import Exit, Problem
from vm.kernel import installed, source
from vm.kernel.image import Kernel, Kind

VERSION = "7.9.1-test"
OTHER = bzimage().replace(RELEASE[:10], b"7.8.0-test")


@pytest.fixture(autouse=True)
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that runs what images.bzimage() is, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ("Linux", "host", VERSION, "#1", "x86_64")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(names))


#: Distribution -> its files, "->" for a link, and where the image and the modules are found.
LAYOUTS: dict[str, tuple[dict[str, bytes | str], str, str]] = {
    "Debian": (
        {f"boot/vmlinuz-{VERSION}": bzimage(), f"lib/modules/{VERSION}/kernel/x.ko": b""},
        f"boot/vmlinuz-{VERSION}",
        f"lib/modules/{VERSION}",
    ),
    "Fedora": (
        {
            "lib": "usr/lib",
            f"usr/lib/modules/{VERSION}/vmlinuz": bzimage(),
            f"usr/lib/modules/{VERSION}/kernel/x.ko.xz": b"",
            "usr/lib/modules/7.8.0-test/vmlinuz": OTHER,
            f"boot/.vmlinuz-{VERSION}.hmac": b"",
        },
        f"usr/lib/modules/{VERSION}/vmlinuz",
        f"usr/lib/modules/{VERSION}",
    ),
    "Arch": (
        {
            "lib": "usr/lib",
            "boot/vmlinuz-linux": OTHER,
            f"usr/lib/modules/{VERSION}/vmlinuz": bzimage(),
            f"usr/lib/modules/{VERSION}/kernel/x.ko.zst": b"",
        },
        f"usr/lib/modules/{VERSION}/vmlinuz",
        f"usr/lib/modules/{VERSION}",
    ),
    "Arch, image in /boot alone": (
        {
            "lib": "usr/lib",
            "boot/vmlinuz-linux": bzimage(),
            "boot/vmlinuz-aaa": OTHER,
            "boot/vmlinuz-broken": b"",
            f"usr/lib/modules/{VERSION}/kernel/x.ko.zst": b"",
        },
        "boot/vmlinuz-linux",
        f"usr/lib/modules/{VERSION}",
    ),
    "openSUSE": (
        {
            f"boot/vmlinuz-{VERSION}": f"../usr/lib/modules/{VERSION}/vmlinuz",
            f"usr/lib/modules/{VERSION}/vmlinuz": bzimage(),
            f"usr/lib/modules/{VERSION}/kernel/x.ko.zst": b"",
        },
        f"usr/lib/modules/{VERSION}/vmlinuz",
        f"usr/lib/modules/{VERSION}",
    ),
    "NixOS": (
        {
            "nix/store/k-linux/bzImage": bzimage(),
            f"nix/store/m-modules/lib/modules/{VERSION}/kernel/x.ko.xz": b"",
            "nix/store/system/kernel": "../k-linux/bzImage",
            "nix/store/system/kernel-modules": "../m-modules",
            "run/booted-system": "../nix/store/system",
        },
        "nix/store/k-linux/bzImage",
        f"nix/store/m-modules/lib/modules/{VERSION}",
    ),
    "NixOS, modules of the present generation": (
        {
            "nix/store/k-linux/bzImage": bzimage(),
            "run/booted-system/kernel": "../../nix/store/k-linux/bzImage",
            f"run/current-system/kernel-modules/lib/modules/{VERSION}/kernel/x.ko": b"",
        },
        "nix/store/k-linux/bzImage",
        f"run/current-system/kernel-modules/lib/modules/{VERSION}",
    ),
    "Gentoo": (
        {f"boot/kernel-{VERSION}": bzimage(), f"lib/modules/{VERSION}/kernel/x.ko": b""},
        f"boot/kernel-{VERSION}",
        f"lib/modules/{VERSION}",
    ),
}


def lay_out(root: Path, files: dict[str, bytes | str]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, str):
            (root / name).symlink_to(data)
        else:
            (root / name).write_bytes(data)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_running_kernel_is_found_where_the_distribution_has_it(
    tmp_path: Path, name: str
) -> None:
    files, image, modules = LAYOUTS[name]
    root = tmp_path / "root"
    lay_out(root, files)
    kernel = installed.kernel(root)
    assert (kernel.kind, kernel.release, kernel.path) == (Kind.BZIMAGE, VERSION, root / image)
    assert kernel.modules is not None
    assert kernel.modules.resolve() == root / modules


def test_one_that_is_booted_as_a_unified_kernel_image_is_taken_out(tmp_path: Path) -> None:
    """As good as any wrapping: compressed here."""
    root = tmp_path / "root"
    lay_out(
        root,
        {
            "boot/EFI/Linux/arch.efi": COMPRESS["gz"](bzimage()),
            f"usr/lib/modules/{VERSION}/kernel/x.ko": b"",
        },
    )
    kernel = installed.kernel(root)
    assert kernel.path.read_bytes() == bzimage()
    assert kernel.modules == root / f"usr/lib/modules/{VERSION}"
    assert kernel.origin == f"the running kernel, {root}/boot/EFI/Linux/arch.efi"


def test_an_image_of_another_release_is_not_taken_for_it(tmp_path: Path) -> None:
    lay_out(tmp_path / "root", {"boot/vmlinuz-linux": OTHER})
    with pytest.raises(Problem, match=rf"no image of the running kernel {VERSION}: .*\nhint: "):
        installed.kernel(tmp_path / "root")


def test_one_that_may_be_it_and_only_root_may_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path / "root", {"boot/vmlinuz-linux": bzimage()})
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(Problem, match="boot/vmlinuz-linux: only root may read it"):
        installed.kernel(tmp_path / "root")


# --- as the default -------------------------------------------------------------------------------


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is not Debian."""
    monkeypatch.setattr(apt, "distribution", lambda: ("fedora", ""))
    monkeypatch.setattr(apt, "own_sites", list)


def answers(monkeypatch: pytest.MonkeyPatch, support: Support, errno: int) -> None:
    monkeypatch.setattr(flag, "probe", lambda: Probe(support, errno))


def test_without_debian_the_running_kernel_is_the_default_where_it_has_the_flag(
    no_mirror: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Kernel(Path("/boot/vmlinuz"), Kind.BZIMAGE, VERSION, "the running kernel")
    monkeypatch.setattr(installed, "kernel", lambda: image)
    answers(monkeypatch, Support.PRESENT, 14)
    assert source.newest(X86_64).make() is image
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the running kernel's image: no Debian package source on this machine")


@pytest.mark.parametrize(
    ("support", "errno", "words"),
    [
        (Support.ABSENT, 22, "the running one: kernel has no OPEN_TREE_NAMESPACE"),
        (Support.UNCLEAR, 1, "the running one: cannot tell whether"),
    ],
)
def test_without_debian_and_the_flag_one_line_says_what_to_do(
    no_mirror: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    support: Support,
    errno: int,
    words: str,
) -> None:
    monkeypatch.setattr(installed, "kernel", lambda: pytest.fail("taken all the same"))
    answers(monkeypatch, support, errno)
    for backend in ("qemu", "uml"):
        assert main.main(["run", "--dry-run", "--backend", backend]) == Exit.HOST
        first, second = capsys.readouterr().err.splitlines()
        assert first.startswith("vm: no Debian package source on this machine, and no kernel in")
        assert words in first or backend == "uml"
        assert second.startswith("hint: give one with --kernel: ")


def test_with_a_kernel_in_the_cache_that_is_the_default(
    no_mirror: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache may have been copied from a machine that has Debian's mirror."""
    name = "linux-binary-7.2.9+deb13-cloud-amd64"
    lay_out(
        tmp_path / "cache/open-tree-namespace-tests/kernels/debian/sid" / name,
        {"boot/vmlinuz-7.2.9": bzimage()},
    )
    monkeypatch.setattr(flag, "probe", lambda: pytest.fail("asked"))
    assert source.newest(X86_64).make().path.name == "vmlinuz-7.2.9"
