# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in package files: image and modules taken out into the cache, nothing installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.helpers.images import arm64_image, bzimage, elf
from tests.harness.helpers.packages import (
    COMPRESS,
    IMAGE,
    MODULES,
    OVERLAY,
    VERSION,
    deb,
    rpm,
    tar,
)
from vm import paths
from vm.arch import X86_64
from vm.commands import main
from vm.errors import Exit, Problem
from vm.kernel import cache, modules, source
from vm.kernel.image import Kernel, Kind


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / paths.NAME / "kernels/file"


def find(text: str | Path) -> Kernel:
    """The kernel that --kernel TEXT gives."""
    return source.find(str(text), X86_64, None).make()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def has_all(kernel: Kernel) -> bool:
    """Whether *kernel* is that of IMAGE with MODULES."""
    assert kernel.modules is not None
    found = modules.collect(kernel.modules)
    return (kernel.kind, kernel.release, found) == (
        Kind.BZIMAGE,
        VERSION,
        {"overlay": MODULES[OVERLAY]},
    )


FORMS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "linux-image_7.9.1_amd64.deb": deb,
    "old.deb": lambda files: deb(files, COMPRESS["gz"], "gz"),
    "ubuntu.deb": lambda files: deb(files, COMPRESS["zst"], "zst"),
    "plain.deb": lambda files: deb(files, bytes, ""),
    "kernel-7.9.1.x86_64.rpm": rpm,
    "fedora.rpm": lambda files: rpm(files, COMPRESS["zst"]),
    "rhel.rpm": lambda files: rpm(files, COMPRESS["xz"]),
    "linux-7.9.1-1-x86_64.pkg.tar.zst": lambda files: tar(files, COMPRESS["zst"]),
    "linux-7.9.1-x86.tar": tar,
    "linux-7.9.1-x86.tar.gz": lambda files: tar(files, COMPRESS["gz"]),
    "linux-7.9.1-x86.tar.bz2": lambda files: tar(files, COMPRESS["bz2"]),
    "linux-7.9.1-x86.tar.xz": lambda files: tar(files, COMPRESS["xz"]),
    # Alpine's: signature, control and files one behind another, each compressed by itself.
    "linux-virt.apk": lambda files: (
        COMPRESS["gz"](tar({".SIGN": b"x"})[:1024]) + tar(files, COMPRESS["gz"])
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_package_gives_its_image_and_modules(tmp_path: Path, store: Path, name: str) -> None:
    path = put(tmp_path / name, FORMS[name]({**IMAGE, **MODULES}))
    kernel = find(path)
    assert has_all(kernel)
    assert (kernel.origin, kernel.home) == (str(path), kernel.path.parents[1])
    assert kernel.path.is_relative_to(store)
    # Neither the rest of the package nor a draft of the folder.
    names = {file.name for file in store.rglob("*") if file.is_file()}
    assert names == {f"vmlinuz-{VERSION}", "overlay.ko", "origin"}
    assert len(list(store.iterdir())) == 1


@pytest.mark.parametrize(
    "image", [f"usr/lib/modules/{VERSION}/vmlinuz", f"lib/modules/{VERSION}/vmlinuz"]
)
@pytest.mark.parametrize("top", ["", "usr/"])
def test_image_and_modules_may_lie_below_lib_or_usr_lib(
    tmp_path: Path, image: str, top: str
) -> None:
    files = {image: IMAGE[f"boot/vmlinuz-{VERSION}"]}
    files.update((top + name, data) for name, data in MODULES.items())
    files[f"usr/lib/modules/{VERSION}/build/vmlinux"] = b"of the headers"
    assert has_all(find(put(tmp_path / "x.deb", deb(files))))


def test_of_a_bzimage_and_its_vmlinux_the_bzimage_boots(tmp_path: Path) -> None:
    """As in the package of `make tar-pkg`."""
    vmlinux = elf(0xFFFFFFFF81000000, banner=f"Linux version {VERSION} (x)".encode())
    kernel = find(put(tmp_path / "x.tar", tar({**IMAGE, f"boot/vmlinux-{VERSION}": vmlinux})))
    assert (kernel.kind, kernel.release) == (Kind.BZIMAGE, VERSION)


def test_a_package_for_arm64_may_have_the_vmlinux_beside_the_image(tmp_path: Path) -> None:
    """As that of `make tar-pkg`, the image compressed."""
    image = COMPRESS["gz"](arm64_image())
    files = {f"boot/vmlinux-{VERSION}": FOREIGN, f"boot/vmlinuz-{VERSION}": image}
    kernel = find(put(tmp_path / "x.tar", tar(files)))
    assert (kernel.kind, kernel.release) == (Kind.IMAGE, VERSION)


def test_what_is_taken_out_may_be_run(tmp_path: Path) -> None:
    """User-Mode Linux is a program, and not every archive has it as one."""
    assert os.access(find(put(tmp_path / "x.tar", tar(IMAGE))).path, os.X_OK)


def test_a_file_beside_the_image_that_is_none_is_left_out(tmp_path: Path) -> None:
    files = {"boot/vmlinuz-1-rescue": b"#!/bin/sh", **IMAGE}
    kernel = find(put(tmp_path / "x.tar", tar(files)))
    assert [path.name for path in kernel.path.parent.iterdir()] == [f"vmlinuz-{VERSION}"]


def test_a_package_may_have_a_file_twice(tmp_path: Path) -> None:
    """The later one is meant, as tar(1) has it."""
    twice = tar({f"boot/vmlinuz-{VERSION}": b"#!/bin/sh"})[:1024] + tar(IMAGE)
    assert find(put(tmp_path / "x.tar", twice)).release == VERSION


def test_a_package_is_unpacked_once_and_again_when_it_has_changed(
    tmp_path: Path, store: Path
) -> None:
    path = put(tmp_path / "x.deb", deb(IMAGE))
    first = find(path)
    first.path.touch()
    at = first.path.stat().st_mtime_ns
    assert find(path).path.stat().st_mtime_ns == at
    assert find(path).modules is None
    put(path, deb({**IMAGE, **MODULES}))
    assert has_all(find(path))
    assert len(list(store.iterdir())) == 2


def test_the_cache_lists_it_and_takes_it_by_that_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path / "x.deb", deb({**IMAGE, **MODULES}))
    find(path)
    path.unlink()
    assert main.main(["kernels"]) == Exit.OK
    (line,) = capsys.readouterr().out.splitlines()
    name = line.partition("  ")[0]
    assert f"Linux {VERSION}, {path}, in the cache" in line
    assert has_all(find(name))
    assert any(line.startswith(f"removed {name}") for line in cache.prune(0))
    with pytest.raises(Problem, match=r"not in the cache\nhint: .*vm kernels") as caught:
        find(name)
    assert caught.value.status is Exit.USAGE


def test_one_of_which_files_are_gone_is_listed_and_removed_too(tmp_path: Path) -> None:
    kernel = find(put(tmp_path / "x.deb", deb(IMAGE)))
    kernel.path.unlink()
    assert any("a damaged kernel, in the cache" in line for line in cache.listing())
    assert list(cache.prune(0))[-1].startswith("1 removed")


@pytest.mark.parametrize(
    ("name", "data"), [("x.deb", deb(IMAGE)), ("x.gz", COMPRESS["gz"](bzimage()))]
)
def test_a_kernel_that_is_pruned_meanwhile_is_taken_out_again(
    tmp_path: Path, name: str, data: bytes
) -> None:
    found = source.find(str(put(tmp_path / name, data)), X86_64, None)
    list(cache.prune(0))
    with ExitStack() as stack:
        assert found.obtain(stack).path.exists()


def test_packages_are_not_built(tmp_path: Path) -> None:
    put(tmp_path / "x.deb", deb(IMAGE))
    building = source.Building(tmp_path / "log")
    for text in (tmp_path, tmp_path / "x.deb"):
        with pytest.raises(Problem, match="not a build tree"):
            source.find(str(text), X86_64, building)


#: Not for x86-64, by what its bytes say.
FOREIGN = elf(0xFFFFFFFF81000000, machine=183)
RISCV = b"MZ".ljust(0x38, b"\0") + b"RSC\x05".ljust(0x400, b"\0")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a damaged package: "),
        (b"!<arch>\n", "an archive, but not a package: no data.tar is in it"),
        (b"!<arch>\nnonsense", "a damaged package: no member at byte 8"),
        (
            deb(IMAGE).replace(b"4         `", b"-60       `"),
            "a damaged package: no member at byte 8",
        ),
        (deb(IMAGE)[:-50], "a damaged package: data.tar.xz is cut"),
        (deb(IMAGE, lambda data: COMPRESS["xz"](data)[:-200]), "a damaged package: "),
        (deb(IMAGE, lambda _: b"\xfd7zXZ\0 nonsense"), "a damaged package: "),
        (deb(IMAGE, lambda _: b"\x28\xb5\x2f\xfd nonsense"), "(zstd: |needs the program zstd)"),
        (deb(IMAGE, lambda data: data[:5120], ""), "a damaged package: "),
        (deb({}), "neither a kernel nor modules are in this package"),
        (deb({"usr/share/doc/x": b"x"}), "neither a kernel nor modules are in this package"),
        (deb(MODULES), "modules, but no kernel\nhint: .*IMAGE.MODULES"),
        (deb({"boot/vmlinuz-7": RISCV}), "vmlinuz-7 in it: a kernel for riscv, which there are no"),
        (deb({"boot/vmlinux-7": FOREIGN}), "vmlinux-7 in it: an ELF file for arm64, which "),
        (deb({"boot/vmlinuz-7": b"\x1f\x8bnonsense"}), "vmlinuz-7 in it: gzip: "),
        (deb({"boot/vmlinuz-7": b"#!/bin/sh"}), "vmlinuz-7 in it: not a kernel image"),
    ],
)
def test_a_package_that_does_not_do_is_one_line_and_a_hint(
    tmp_path: Path,
    store: Path,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
    words: str,
) -> None:
    path = put(tmp_path / "x.deb", data)
    with pytest.raises(Problem, match=words):
        find(path)
    assert main.main(["run", "--kernel", str(path), "--dry-run"]) == Exit.HOST
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"vm: {path}: ")
    assert str(store) not in first
    assert second.startswith("hint: ")
    assert list(store.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.rpm", rpm(IMAGE)[:200], "a damaged package: "),
        ("x.rpm", rpm(IMAGE)[:-90], "a damaged package: "),
        ("x.rpm", rpm(IMAGE, lambda _: b"something else"), "a damaged package: no member of"),
        ("x.rpm", rpm(IMAGE, lambda data: data[:600]), "a damaged package: a file in it is cut"),
        ("x.rpm", rpm({}), "neither a kernel nor modules are in this package"),
        ("x.tar.gz", tar(IMAGE, COMPRESS["gz"])[:-30], "a damaged package: "),
        ("x.tar.zst", b"\x28\xb5\x2f\xfd nonsense", "(zstd: |needs the program zstd)"),
        ("x.tar", b"#!/bin/sh", "a damaged package: "),
        ("x.tar", tar({"linux-7.9/Makefile": b""}), "neither a kernel nor modules are in this"),
    ],
)
def test_so_is_one_of_another_form(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = put(tmp_path / name, data)
    with pytest.raises(Problem, match=rf"{name}: {words}.*\nhint: "):
        find(path)


def test_a_program_that_is_missing_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "x.tar.zst", tar(IMAGE, COMPRESS["zst"]))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(Problem, match=r"x\.tar\.zst: needs the program zstd\nhint: install zstd"):
        find(path)


def test_a_hard_link_in_a_package_is_the_file_that_it_is_to(tmp_path: Path) -> None:
    other = OVERLAY.replace("overlay.ko", "again.ko")
    kernel = find(put(tmp_path / "x.tar", tar({**IMAGE, **MODULES}, links={other: OVERLAY})))
    assert kernel.modules is not None
    found = modules.collect(kernel.modules, ("again",))
    assert found == {"again": MODULES[OVERLAY]}


@pytest.mark.parametrize("name", ["file", "file/vmlinuz", "http/vmlinuz"])
def test_a_path_that_reads_nearly_as_one_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / name, bzimage())
    kernel = find(name)
    assert (kernel.path, kernel.home) == (tmp_path / name, None)


def test_a_package_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"no\.deb: No such file or directory\nhint: "):
        find(tmp_path / "no.deb")


def test_nothing_is_written_outside_the_cache(tmp_path: Path) -> None:
    path = f"lib/modules/{VERSION}/kernel/../../../../../../../../out.ko"
    find(put(tmp_path / "x.deb", deb({**IMAGE, path: b"x"})))
    assert not list(tmp_path.rglob("out.ko"))


# --- several files --------------------------------------------------------------------------------

CORE = {f"lib/modules/{VERSION}/vmlinuz": IMAGE[f"boot/vmlinuz-{VERSION}"]}


def test_image_and_modules_may_be_in_two_packages(tmp_path: Path) -> None:
    """Names of packages may have a + of their own."""
    core = put(tmp_path / "linux-binary-7.9.1+deb13_7.9.1-1~bpo13+1_amd64.deb", deb(CORE))
    rest = put(tmp_path / "linux-modules-7.9.1+deb13_7.9.1-1~bpo13+1_amd64.deb", deb(MODULES))
    for first, second in ((core, rest), (rest, core)):
        kernel = find(f"{first}+{second}")
        assert has_all(kernel)
        assert kernel.origin == f"{first.name}+{second.name}"
    assert find(core).modules is None


def test_packages_may_be_given_by_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "RPMS"
    put(folder / "kernel-core-7.9.1.x86_64.rpm", rpm(CORE))
    order = {f"lib/modules/{VERSION}/modules.order": b"kernel/fs/overlayfs/overlay.ko\n"}
    put(folder / "kernel-modules-7.9.1.x86_64.rpm", rpm(MODULES | order))
    put(folder / "kernel-modules-extra-7.9.1.x86_64.rpm", rpm(order))
    put(folder / "kernel-7.9.1.x86_64.rpm", rpm({}))  # which only asks for these
    for other in (
        *("kernel-devel-7.9.1.x86_64.rpm", "kernel-debuginfo-7.9.1.x86_64.rpm"),
        *("kernel-headers-7.9.1.x86_64.rpm", "kernel-7.9.1.src.rpm", "README"),
    ):
        put(folder / other, b"not looked into")
    assert has_all(find(folder))


def test_a_folder_of_packages_without_a_kernel_is_named(tmp_path: Path) -> None:
    put(tmp_path / "linux-doc.deb", deb({}))
    with pytest.raises(Problem, match=r"^.*linux-doc\.deb: no kernel\nhint: "):
        find(tmp_path)


def test_a_build_tree_with_packages_is_a_build_tree(tmp_path: Path) -> None:
    """`make tar-pkg` leaves its archive there."""
    put(tmp_path / "linux/linux-7.9.1-x86.tar.gz", tar(IMAGE, COMPRESS["gz"]))
    put(tmp_path / "linux/.config", b"CONFIG_X86=y\n")
    with pytest.raises(Problem, match="not built yet"):
        find(tmp_path / "linux")


def test_a_folder_without_packages_is_told_what_it_may_have(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"not a build tree.*\nhint: .*packages"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["bzImage", "vmlinuz-7.9.1+deb13"])
def test_the_image_may_be_in_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As a build server leaves it beside an archive of modules."""
    put(tmp_path / name, bzimage())
    put(tmp_path / "modules.tar.xz", tar(MODULES, COMPRESS["xz"]))
    monkeypatch.chdir(tmp_path)
    for text in (f"{name}+modules.tar.xz", f"modules.tar.xz+./{name}"):
        kernel = find(text)
        assert has_all(kernel)
        assert kernel.origin == text.replace("./", "")


def test_an_image_alone_that_is_none_is_named(tmp_path: Path) -> None:
    image, package = put(tmp_path / "vmlinuz", b"#!/bin/sh"), put(tmp_path / "x.deb", deb(MODULES))
    with pytest.raises(Problem, match=rf"^{image}: not a kernel image"):
        find(f"{image}+{package}")


def other_release(data: bytes) -> bytes:
    return data.replace(VERSION.encode(), b"7.8.0-test")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([CORE, {"boot/vmlinuz-7.8": other_release(CORE[next(iter(CORE))])}], "several kernels, 7"),
        ([CORE, CORE | MODULES], "x1.deb: lib/modules/7.9.1-test/vmlinuz is in another of the"),
        (
            [CORE, {OVERLAY.replace(VERSION, "7.8.0"): b"x"}],
            "Linux 7.9.1-test and modules of 7.8.0",
        ),
        ([MODULES, {"boot/config": b""}], "x1.deb: neither a kernel nor modules"),
    ],
    ids=["two kernels", "one kernel twice", "modules of another", "no kernel"],
)
def test_parts_that_do_not_make_one_kernel_are_named(
    tmp_path: Path, parts: list[dict[str, bytes]], words: str
) -> None:
    paths = [put(tmp_path / f"x{n}.deb", deb(part)) for n, part in enumerate(parts)]
    with pytest.raises(Problem, match=rf"{words}.*\nhint: "):
        find("+".join(map(str, paths)))
