# SPDX-License-Identifier: GPL-2.0-only
"""The launcher as a program, with a QEMU that is a script: exit statuses, limits, what is left."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.harness.helpers.launcher import Launcher, complaints, make_launcher
from tests.harness.helpers.story import table
from tests.utils.report import header
from vm import paths
from vm.arch import QEMU_KVM, X86_64
from vm.backend import qemu
from vm.distro import apt
from vm.errors import Exit, Problem


@pytest.mark.parametrize(
    ("play", "words", "status", "text"),
    [
        ("pass", (), Exit.OK, "3 passed in"),
        ("fail", (), Exit.FAILED, "1 failed, 1 passed in"),
        ("panic", (), Exit.FAILED, "1 error, 2 passed; Kernel panic - not syncing: crash in"),
        ("hang", ("--run-limit", "0.5"), Exit.RUN_LIMIT, "run limit hit in t.py::two"),
        ("silent hang", ("--boot-limit", "2"), Exit.NOT_BOOTED, "boot limit"),
        ("early panic", (), Exit.NOT_BOOTED, "No working init found"),
        ("pass", ("--backend", "uml"), Exit.USAGE, "runs with --backend qemu"),
    ],
)
def test_every_end_has_its_exit_status(
    launcher: Launcher, play: str, words: tuple[str, ...], status: Exit, text: str
) -> None:
    done = launcher.run(play, *words)
    assert done.returncode == status, done.stdout + done.stderr
    assert text in (done.stdout + complaints(done.stderr)).splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(launcher.temporary.iterdir()) == []


def test_results_are_on_standard_output_and_what_goes_on_is_not(launcher: Launcher) -> None:
    done = launcher.run("pass")
    assert "booting Linux 7.9.1" in done.stderr
    assert done.stdout.startswith("arguments: ")  # pytest's own words
    assert "3 passed in" in done.stdout.splitlines()[-1]
    assert complaints(done.stderr) == ""


def test_pytests_output_is_shown_and_its_arguments_passed_on(launcher: Launcher) -> None:
    done = launcher.run("pass", "--require", "--", "-k", "x")
    (line,) = re.findall("^arguments: .*$", done.stdout, re.M)
    assert line.endswith("-k x --require tests/open_tree_ns")


def test_a_path_among_the_arguments_takes_the_place_of_the_cases(launcher: Launcher) -> None:
    done = launcher.run("pass", "--", "tests/harness/vm/run/test_run.py::test_x")
    (line,) = re.findall("^arguments: .*$", done.stdout, re.M)
    assert "open_tree_ns" not in line


def test_waivers_travel_into_the_guest(launcher: Launcher) -> None:
    waivers = launcher.folder / "waive.toml"
    waivers.write_text('[[waive]]\ncase = "t.py::two"\nreason = "known"\n')
    done = launcher.run("pass", "--waive", str(waivers))
    assert done.returncode == Exit.OK
    assert " --waive=/run/waivers.toml " in done.stdout
    assert f"/run/waivers.toml holds: {waivers.read_text()}" in done.stdout


@pytest.mark.parametrize("text", ["[[waive]]", None], ids=["bad", "missing"])
def test_waivers_that_cannot_be_read_are_a_usage_error(
    launcher: Launcher, text: str | None
) -> None:
    waivers = launcher.folder / "waive.toml"
    if text is not None:
        waivers.write_text(text)
    done = launcher.run("pass", "--waive", str(waivers))
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith(f"vm: --waive {waivers}: ")
    assert done.stderr.count("\n") == 1


def test_the_artefacts_lie_in_the_folder_asked_for(launcher: Launcher) -> None:
    launcher.run("pass")
    out = launcher.folder / "out"
    names = ["console.log", "junit.xml", "pytest.log", "results.ktap", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["status"], summary["verdict"]) == (0, "3 passed")
    assert summary["environment"]["release"] == "7.9.1"
    assert "Linux version" in (out / "console.log").read_text()


KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "number": (int, float, type(None)),
    "list": (list,),
    "object": (dict,),
}


def test_every_field_of_the_summary_is_documented_and_there(launcher: Launcher) -> None:
    launcher.run("pass")
    summary = json.loads((launcher.folder / "out/summary.json").read_text())
    # What the script does not play. Process 1 changes where it imports from: not here.
    ask = "vm.guest.init.environment({}, 'root')"
    done = subprocess.run(
        [sys.executable, "-c", f"import json, vm.guest.init; print(json.dumps({ask}))"],
        cwd=paths.ROOT,
        capture_output=True,
        check=True,
    )
    summary["environment"] = {**json.loads(done.stdout), **asdict(header.facts())}
    found: dict[str, object] = {}
    for name, value in summary.items():
        if name == "environment":
            found |= {f"environment.{key}": one for key, one in value.items()}
        elif name == "digest":
            found |= {f"digest.{key}": one for key, one in value.items()}
        elif name == "cases":
            assert len({tuple(case) for case in value}) == 1
            found |= {f"cases[].{key}": one for key, one in value[0].items()}
        else:
            found[name] = value
    documented = {row["field"].strip("`"): row["type"] for row in table("field")}
    assert set(documented) == set(found)
    for name, kind in documented.items():
        assert isinstance(found[name], KINDS[kind]), name


def test_a_crash_is_shown_with_the_top_of_its_stack(launcher: Launcher) -> None:
    done = launcher.run("panic")
    frames = ["copy_tree+0x1/0x2", "caller+0x3/0x4"]
    assert f"the kernel was in {frames[0]}\n     called from {frames[1]}\n" in done.stdout
    assert "decode_stacktrace" not in done.stdout  # an image on its own has no source
    summary = json.loads((launcher.folder / "out/summary.json").read_text())
    assert summary["top_frames"] == frames


def test_cases_are_chosen_by_rule_and_fix(launcher: Launcher) -> None:
    done = launcher.run("pass", "--rule", "K6", "--fixed-by", "0febe278")
    (line,) = re.findall("^arguments: .*$", done.stdout, re.M)
    assert line.endswith("--rule=K6 --fixed-by=0febe278 tests/open_tree_ns")
    done = launcher.run("pass", "--rule", "K99")
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("vm: --rule K99: no such rule\nhint: ")


def test_the_digest_stands_before_the_last_line(launcher: Launcher) -> None:
    done = launcher.run("fail")
    summary = json.loads((launcher.folder / "out/summary.json").read_text())
    headline = summary["digest"]["headline"]
    assert headline.startswith("0 rules kept, 1 broken, 0 known fixes there, ")
    assert f"\nFAILED t.py::two\n{headline}\nno missing fix explains 1 failure:\n" in done.stdout
    assert "1 failed, 1 passed in" in done.stdout.splitlines()[-1]


def test_without_a_folder_a_dated_one_is_made_and_named(launcher: Launcher) -> None:
    done = launcher.run("pass", command=launcher.command())
    folder = Path(done.stdout.strip().rpartition("artefacts: ")[2])
    assert folder.is_relative_to(launcher.folder / "state")
    assert (folder / "summary.json").exists()


def test_guests_share_the_cases_and_give_one_report(launcher: Launcher) -> None:
    done = launcher.run("share", "--guests", "2")
    assert done.returncode == Exit.FAILED
    assert "1 failed, 2 passed" in done.stdout.splitlines()[-1]
    assert done.stdout.count("arguments: ") == 1  # pytest's head is shown once
    out = launcher.folder / "out"
    cases = json.loads((out / "summary.json").read_text())["cases"]
    assert [case["id"] for case in cases] == ["t.py::one", "t.py::two", "t.py::three"]
    for stem in ("console", "pytest"):
        assert {path.name for path in out.glob(f"{stem}*")} == {f"{stem}.log", f"{stem}-2.log"}


def test_one_case_is_lost_with_a_guest_and_another_goes_on(launcher: Launcher) -> None:
    done = launcher.run("panic")
    assert "guest 1 died in t.py::two; guest 2 goes on with 1 case\n" in done.stdout
    summary = json.loads((launcher.folder / "out/summary.json").read_text())
    assert [case["outcome"] for case in summary["cases"]] == ["passed", "error", "passed"]
    assert summary["incomplete"] == ""


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [(("-vx",), False), (("--maxfail", "1"), False), (("--maxfail=2",), True), (("-kx",), True)],
)
def test_a_guest_that_died_is_a_failure_of_those_that_pytest_is_to_stop_after(
    launcher: Launcher, words: tuple[str, ...], goes_on: bool
) -> None:
    done = launcher.run("panic", "--", *words)
    assert ("guest 2 goes on" in done.stdout) == goes_on
    # What is left of them is for the other guest.
    assert (" --maxfail=1 " in done.stdout.partition("guest 2 goes on")[2]) == ("=2" in words[-1])


def test_more_memory_than_there_is_is_said_beforehand(launcher: Launcher) -> None:
    done = launcher.run("share", "--guests", "2", "--memory", "4T")
    first, second = complaints(done.stderr).splitlines()
    assert first.startswith(f"vm: the guests have {2 * 4 << 20} MiB of memory together, and ")
    assert second == "hint: fewer --guests or --jobs, or less --memory"
    assert done.returncode == Exit.FAILED  # and the run goes on: not all of it may be used


def test_cases_that_nobody_could_go_on_with_are_not_forgotten(launcher: Launcher) -> None:
    done = launcher.run("panics")
    assert done.returncode == Exit.FAILED
    summary = json.loads((launcher.folder / "out/summary.json").read_text())
    assert [case["outcome"] for case in summary["cases"]] == ["passed", "error", "error"]
    assert "did not run" in summary["cases"][2]["reason"]
    assert summary["incomplete"] != ""


def test_a_dry_run_prints_the_command_and_starts_nothing(launcher: Launcher) -> None:
    done = launcher.run("refuses", "--dry-run")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()  # and nothing else: it can be given to a shell
    assert "qemu-system-x86_64 -machine q35" in line
    assert not (launcher.folder / "started-qemu").exists()
    assert (launcher.folder / "out/initramfs.cpio").exists()
    assert list(launcher.temporary.iterdir()) == []


#: Keeps its own words, and boots nothing.
KEEPS = r"""
Path(os.environ["STARTED"]).write_text(json.dumps(words))
sys.exit("qemu: no")
"""


def compared(words: list[str]) -> list[str]:
    """*words* of QEMU's without its path, without the folders that each run has for itself, and
    without what follows from KVM, which a dry run does not try."""
    options = words[words.index("-no-user-config") :]
    options += words[words.index("-initrd") : words.index("-nodefaults")]
    short = [re.sub(r"^/\S*/(?=initramfs)", "", word) for word in options]
    short = [re.sub(r"(?<=^file:)\S+", "report", word) for word in short]
    append = short.pop(short.index("-append") + 1).split()
    emulated = (*qemu._SPARING, "thp_anon=")
    return [*short, *(word for word in append if not word.startswith(emulated))]


@pytest.mark.parametrize("words", [(), ("--memory=300", "--append", "a=b c")])
def test_a_dry_run_prints_what_a_run_starts(
    tmp_path: Path, cache: Path, words: tuple[str, ...]
) -> None:
    launcher = make_launcher(tmp_path, cache, KEEPS)
    line = launcher.run("", "--dry-run", *words).stdout.removesuffix(" </dev/null\n")
    launcher.run("", *words)
    started = json.loads((tmp_path / "started").read_text())
    assert compared(shlex.split(line)) == compared(started)


def test_words_for_qemu_come_last(launcher: Launcher) -> None:
    words = (
        "--qemu-args",
        "-s",
        "--qemu-args",
        "-device 'virtio-rng-pci,id=a b'",
        "--append",
        "-x",
    )
    done = launcher.run("refuses", "--dry-run", *words)
    assert done.returncode == 0, done.stderr
    found = shlex.split(done.stdout.partition("</dev/null")[0])
    assert found[-3:] == ["-s", "-device", "virtio-rng-pci,id=a b"]
    assert found[-4].endswith(" -x")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_process_and_no_file(launcher: Launcher, number: signal.Signals) -> None:
    os.mkfifo(launcher.folder / "started")
    process = subprocess.Popen(
        launcher.command(),
        cwd=paths.ROOT,
        env={**launcher.environment, "PLAY": "silent hang"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guest = int((launcher.folder / "started").read_text())  # waits for the script's writing
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED
    assert complaints(errors) == f"vm: interrupted ({number.name})\n"
    with pytest.raises(ProcessLookupError):
        os.kill(guest, 0)
    assert list(launcher.temporary.iterdir()) == []


def test_a_full_disk_is_one_line(launcher: Launcher) -> None:
    out = launcher.folder / "out"
    out.mkdir()
    (out / "console.log").symlink_to("/dev/full")
    done = launcher.run("pass")
    assert done.returncode == Exit.HOST
    found = complaints(done.stderr)
    assert found.startswith("vm: No space left on device")
    assert len(found.splitlines()) == 1
    assert list(launcher.temporary.iterdir()) == []


def test_closed_standard_streams_do_no_harm(launcher: Launcher) -> None:
    words = launcher.command("--output", str(launcher.folder / "out"))
    done = launcher.run("pass", command=["sh", "-c", 'exec "$@" <&-', "sh", *words])
    assert done.returncode == Exit.OK, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--no-such-option"),
        ("nonsense",),
        ("run", "--boot-limit", "-1"),
        ("run", "--cpus", "x"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(launcher: Launcher, words: tuple[str, ...]) -> None:
    done = launcher.run("pass", command=[sys.executable, "-m", "vm", *words])
    assert done.returncode == Exit.USAGE
    assert done.stderr.splitlines()[-1].startswith("hint: ")


def test_a_choice_of_no_case_is_told_apart_from_a_kernel_without_the_flag(
    launcher: Launcher,
) -> None:
    done = launcher.run("chooses nothing")
    assert done.returncode == Exit.NOTHING
    assert complaints(done.stderr).startswith("vm: no case was chosen\nhint: ")
    done = launcher.run("chooses nothing", "--", "--co")  # that was only to be listed
    assert complaints(done.stderr) == ""
    done = launcher.run("lacks the flag")
    assert done.returncode == Exit.NOTHING
    assert complaints(done.stderr) == ""


def test_a_missing_qemu_that_was_asked_for_is_named(launcher: Launcher) -> None:
    launcher.environment["QEMU"] = "/no/such/qemu"
    done = launcher.run("pass")
    assert done.returncode == Exit.HOST
    first, second = done.stderr.splitlines()
    assert first == "vm: QEMU=/no/such/qemu: no such program"
    assert second.startswith("hint: set QEMU ")


def test_a_qemu_that_is_on_no_path_is_found_where_rhel_has_it(launcher: Launcher) -> None:
    place = Path(QEMU_KVM)
    script = f'mount -t tmpfs none {place.parent} && ln -s "$0" {place} && exec "$@"'
    isolated = ["unshare", "-rm", "sh", "-c", script, str(launcher.folder / "qemu")]
    (launcher.folder / "bin/qemu-system-x86_64").rename(launcher.folder / "qemu")
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"no user namespace to mount something on {place.parent} in")
    for name in ("sh", "ldd", "unshare", "mount", "ln", "true"):
        (launcher.folder / "bin" / name).symlink_to(shutil.which(name) or "")
    launcher.environment["PATH"] = str(launcher.folder / "bin")
    launcher.environment.pop("QEMU", None)
    done = launcher.run("pass", command=[*isolated, *launcher.command()])
    assert done.returncode == Exit.OK, done.stdout + done.stderr


def test_where_there_is_none_the_variable_that_names_one_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: object) -> None:
        raise Problem("E: no network")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("QEMU", raising=False)
    monkeypatch.setattr(qemu, "QEMU_KVM", str(tmp_path / "qemu-kvm"))
    monkeypatch.setattr(qemu, "_fetch", fail)
    for sites in ([], ["debian"]):
        monkeypatch.setattr(apt, "own_sites", lambda sites=sites: sites)
        with pytest.raises(Problem, match=r"no qemu-system-x86_64 on PATH") as caught:
            qemu.find(X86_64)
        assert "\nhint: install " in str(caught.value)
        assert "set QEMU" in str(caught.value)
