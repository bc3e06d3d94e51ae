# SPDX-License-Identifier: GPL-2.0-only
"""Build trees, the running kernel's image, and the options a kernel has, on made-up folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.helpers.images import BANNER, CONFIGS, a_source, arm64_image, bzimage, elf
from vm.arch import ARCHITECTURES
from vm.backend import choose, kvm, qemu
from vm.backend.qemu import Qemu
from vm.backend.uml import Uml
from vm.errors import Exit, Problem
from vm.kernel import debian, installed, kconfig, tree
from vm.kernel.image import Kind

IMAGES = {
    "um": ("linux", elf(0x60000000, banner=BANNER)),
    "x86": ("arch/x86/boot/bzImage", bzimage()),
    "arm64": ("arch/arm64/boot/Image", arm64_image()),
}
KINDS = {"um": Kind.UML, "x86": Kind.BZIMAGE, "arm64": Kind.IMAGE}


def built_in(folder: Path, arch: str) -> Path:
    """What make leaves in the folder it builds in."""
    name, data = IMAGES[arch]
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    (folder / ".config").write_text(CONFIGS[arch])
    return folder


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Hold the folders of kernels as long as the test goes on."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and a QEMU that is there and never started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("KBUILD_OUTPUT", "ARCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(qemu, "find", lambda arch: Qemu(Path("/no/such/qemu"), arch))
    monkeypatch.setattr(kvm, "accelerated", lambda program, kernel, trial: program)


@pytest.mark.parametrize("arch", IMAGES)
def test_a_source_built_in_place_gives_its_image(tmp_path: Path, arch: str) -> None:
    folder = built_in(a_source(tmp_path / "linux"), arch)
    # What is asked for yields to what is configured.
    found = tree.find(folder, "um" if arch == "x86" else "x86")
    assert (found.objects, found.source, found.arch) == (folder, folder, arch)
    kernel = tree.kernel(found)
    assert (kernel.kind, kernel.release) == (KINDS[arch], "7.9.1-test")
    assert (kernel.home, kernel.source, kernel.modules) == (folder, folder, None)


def test_an_output_folder_knows_its_source_by_the_link(tmp_path: Path) -> None:
    source, output = a_source(tmp_path / "linux"), built_in(tmp_path / "out", "x86")
    (output / "source").symlink_to(source)
    assert tree.find(output, "x86").source == source


def test_an_output_folder_knows_its_source_by_its_makefile(tmp_path: Path) -> None:
    source, output = a_source(tmp_path / "linux"), built_in(tmp_path / "out", "x86")
    (output / "Makefile").write_text(f"# Automatically generated\ninclude {source}/Makefile\n")
    assert tree.find(output, "x86").source == source


def test_an_output_folder_without_its_source_still_has_an_image(tmp_path: Path) -> None:
    output = built_in(tmp_path / "out", "um")
    (output / "source").symlink_to(tmp_path / "gone")
    found = tree.find(output, "x86")
    assert found.source is None
    assert tree.kernel(found).kind is Kind.UML


def test_a_vmlinux_does_where_there_is_no_bzimage(tmp_path: Path) -> None:
    folder = a_source(tmp_path / "linux")
    (folder / ".config").write_text(CONFIGS["x86"])
    (folder / "vmlinux").write_bytes(elf(0xFFFFFFFF81000000, banner=BANNER))
    assert tree.kernel(tree.find(folder, "x86")).kind is Kind.VMLINUX


def test_the_release_comes_from_the_tree_where_the_image_does_not_tell(tmp_path: Path) -> None:
    folder = built_in(a_source(tmp_path / "linux"), "x86")
    image = bytearray(bzimage())
    image[0x20E:0x210] = bytes(2)
    (folder / IMAGES["x86"][0]).write_bytes(image)
    (folder / "include/config").mkdir(parents=True)
    (folder / "include/config/kernel.release").write_text("7.9.2-tree\n")
    assert tree.kernel(tree.find(folder, "x86")).release == "7.9.2-tree"


def test_modules_lie_in_the_tree_once_they_are_built(tmp_path: Path) -> None:
    folder = built_in(a_source(tmp_path / "linux"), "x86")
    (folder / "modules.order").touch()
    assert tree.kernel(tree.find(folder, "x86")).modules == folder


@pytest.mark.parametrize("arch", IMAGES)
def test_a_tree_that_is_not_built_says_what_to_do(tmp_path: Path, arch: str) -> None:
    folder = a_source(tmp_path / "linux")
    (folder / ".config").write_text(CONFIGS[arch])
    with pytest.raises(
        Problem, match=r"not built yet, no .*\nhint: run make, or give --build$"
    ) as caught:
        tree.kernel(tree.find(folder, arch))
    assert str(caught.value).startswith(str(folder))
    assert caught.value.status is Exit.NOT_BOOTED


def test_a_clean_source_is_built_in_the_cache_by_architecture(tmp_path: Path) -> None:
    source = a_source(tmp_path / "linux")
    folders = {
        tree.find(source, arch, debug).objects for arch in ("um", "x86") for debug in (False, True)
    }
    assert len(folders) == 4
    assert all(folder.is_relative_to(tmp_path / "cache") for folder in folders)
    other = a_source(tmp_path / "other/linux")
    assert tree.find(other, "um").objects not in folders


def test_a_clean_source_is_built_where_make_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = a_source(tmp_path / "linux"), built_in(tmp_path / "out", "um")
    monkeypatch.setenv("KBUILD_OUTPUT", "../out")
    found = tree.find(source, "x86")
    assert (found.objects, found.source, found.arch) == (output, source, "um")
    assert found.theirs == output / ".config"


def test_a_tree_for_another_machine_is_refused(tmp_path: Path) -> None:
    folder = a_source(tmp_path / "linux")
    (folder / ".config").write_text("CONFIG_RISCV=y\n# CONFIG_X86 is not set\n")
    with pytest.raises(Problem, match=r"for none of the architectures of guests\nhint: .*=arm64"):
        tree.find(folder, "x86")


def test_a_folder_that_is_no_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="not a build tree"):
        tree.find(tmp_path, "x86")


def test_what_the_cases_lack_is_read_from_what_was_built(tmp_path: Path) -> None:
    folder = built_in(a_source(tmp_path / "linux"), "x86")
    found = tree.find(folder, "x86")
    assert tree.lacking(found) == []  # nothing is known
    (folder / "include/config").mkdir(parents=True)
    wanted = kconfig.read(kconfig.CASES)
    lines = [f"CONFIG_{name}={value}" for name, value in wanted.items() if name != "FUSE_FS"]
    text = "\n".join(lines).replace("OVERLAY_FS=y", "OVERLAY_FS=m")
    (folder / "include/config/auto.conf").write_text(text)
    assert tree.lacking(found) == ["FUSE_FS"]


def test_a_fragment_is_laid_over_a_configuration() -> None:
    base = '# head\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x=y"\nCONFIG_D=m\nCONFIG_AB=y\n'
    text = kconfig.over(base, ["CONFIG_B=y\nCONFIG_D=y\n", "# CONFIG_A is not set\nCONFIG_D=m\n"])
    assert kconfig.options(text) == {"A": "n", "B": "y", "C": '"x=y"', "D": "m", "AB": "y"}
    assert text.startswith("# head\n")
    assert text.count("CONFIG_D") == 1


def test_an_option_is_missing_unless_it_is_set_or_a_module() -> None:
    wanted = {"A": "y", "B": "y", "C": "y", "D": "n", "E": "n", "F": "y"}
    have = {"A": "y", "B": "m", "C": "n", "D": "y"}
    assert kconfig.missing(have, wanted) == ["C", "D", "F"]


def test_an_option_that_only_selects_another_is_not_asked_for_where_that_is_there() -> None:
    wanted = "CONFIG_USER_EVENTS=y\nCONFIG_UNIX=y\n"
    there, absent = "CONFIG_TRACING=y\n", "# CONFIG_TRACING is not set\n"
    assert "USER_EVENTS" not in kconfig.over(there, [wanted])
    assert "USER_EVENTS" in kconfig.over(absent, [wanted])
    assert kconfig.missing(kconfig.options(there), kconfig.options(wanted)) == ["UNIX"]
    assert "USER_EVENTS" in kconfig.missing(kconfig.options(absent), kconfig.options(wanted))
    # One that is set already stays.
    both = there + "CONFIG_USER_EVENTS=y\n"
    assert kconfig.options(kconfig.over(both, [wanted]))["USER_EVENTS"] == "y"


@pytest.mark.parametrize(
    "path",
    [kconfig.CASES, kconfig.DEBUG, *map(kconfig.guest, ARCHITECTURES)],
    ids=lambda path: str(path.name),
)
def test_our_fragments_are_options_and_comments(path: Path) -> None:
    kconfig.require_fragment(path)
    lines = [line for line in path.read_text().splitlines() if "CONFIG_" in line]
    assert len(lines) == len(kconfig.read(path)) > 5  # none is there twice


@pytest.mark.parametrize("arch", IMAGES)
def test_an_image_in_a_tree_brings_the_tree_along(
    tmp_path: Path, arch: str, stack: ExitStack
) -> None:
    folder = built_in(a_source(tmp_path / "linux"), arch)
    (folder / "modules.order").touch()
    kernel, program = choose.choose(str(folder / IMAGES[arch][0]), "auto", None, stack)
    assert (kernel.home, kernel.source, kernel.modules) == (folder, folder, folder)
    assert kernel.origin == str(folder / IMAGES[arch][0])
    assert isinstance(program, Uml) is (arch == "um")


@pytest.mark.parametrize("top", ["lib", "usr/lib"])
@pytest.mark.parametrize("place", ["boot/vmlinuz-7.9.1-test", "usr/lib/modules/7.9.1-test/vmlinuz"])
def test_an_installed_image_brings_its_modules_along(
    tmp_path: Path, place: str, top: str, stack: ExitStack
) -> None:
    modules = tmp_path / top / "modules/7.9.1-test"
    if "boot" not in place:
        modules = (tmp_path / place).parent
    (modules / "kernel").mkdir(parents=True)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(bzimage())
    kernel, _ = choose.choose(str(tmp_path / place), "auto", None, stack)
    assert (kernel.modules, kernel.home) == (modules, None)


def test_an_image_on_its_own_has_no_modules(tmp_path: Path, stack: ExitStack) -> None:
    (tmp_path / "bzImage").write_bytes(bzimage())
    kernel, _ = choose.choose(str(tmp_path / "bzImage"), "auto", None, stack)
    assert (kernel.modules, kernel.home, kernel.source) == (None, None, None)


@pytest.mark.parametrize(
    ("backend", "variable", "arch"),
    [("auto", "um", "um"), ("auto", "", "x86"), ("qemu", "um", "x86"), ("uml", "x86", "um")],
)
def test_a_clean_source_is_for_the_backend_or_what_make_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    variable: str,
    arch: str,
    stack: ExitStack,
) -> None:
    source = a_source(tmp_path / "linux")
    monkeypatch.setenv("ARCH", variable)
    output = built_in(tree.cached(source, arch), arch)
    kernel, _ = choose.choose(str(source), backend, None, stack)
    assert kernel.home == output


def running_image(root: Path) -> Path:
    """Where the running kernel's image would be; what is written there says it is a 7.9.1-test."""
    release = os.uname().release
    (root / "boot").mkdir()
    (root / "lib/modules/7.9.1-test/kernel").mkdir(parents=True)
    return root / f"boot/vmlinuz-{release}"


def test_the_running_kernels_image_is_found_with_its_modules(tmp_path: Path) -> None:
    path = running_image(tmp_path)
    path.write_bytes(bzimage())
    kernel = installed.kernel(tmp_path)
    assert (kernel.path, kernel.kind) == (path, Kind.BZIMAGE)
    assert kernel.modules == tmp_path / "lib/modules/7.9.1-test"


def test_the_running_kernels_image_may_lie_with_the_modules(tmp_path: Path) -> None:
    path = tmp_path / "lib/modules" / os.uname().release / "vmlinuz"
    path.parent.mkdir(parents=True)
    path.write_bytes(bzimage())
    assert installed.kernel(tmp_path).path == path


def test_without_an_image_of_the_running_kernel_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"no image of the running kernel .*\nhint: .*--kernel PATH"):
        installed.kernel(tmp_path)


def test_an_image_that_only_root_may_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = running_image(tmp_path)
    path.write_bytes(bzimage())
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(Problem, match="only root may read it") as caught:
        installed.kernel(tmp_path)
    assert str(path) in str(caught.value)


def test_virtme_ng_is_given_a_kernel_for_x86(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> None:
    monkeypatch.setenv("ARCH", "um")
    source = a_source(tmp_path / "linux")
    with pytest.raises(Problem, match="not built yet, no arch/x86/boot/bzImage"):
        choose.choose(str(source), "virtme-ng", None, stack)


def test_nothing_is_fetched_for_a_backend_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
    stack: ExitStack,
) -> None:
    monkeypatch.setattr(debian, "get", lambda spec: pytest.fail("fetched"))
    for text, backend in (("debian:sid", "uml"), ("debian:sid/user-mode-linux", "qemu")):
        with pytest.raises(
            Problem, match=rf"{text} is .* kernel: not for --backend {backend}\nhint: it runs with "
        ):
            choose.choose(text, backend, None, stack)


@pytest.mark.parametrize("backend", ["qemu", "virtme-ng"])
def test_nothing_is_fetched_where_qemu_is_missing(
    monkeypatch: pytest.MonkeyPatch, backend: str, stack: ExitStack
) -> None:
    def find(_: object) -> Qemu:
        raise Problem("no QEMU")

    monkeypatch.setattr(debian, "get", lambda spec: pytest.fail("fetched"))
    monkeypatch.setattr(qemu, "find", find)
    for text in ("", "debian:sid"):
        with pytest.raises(Problem, match="no QEMU"):
            choose.choose(text, backend, None, stack)
