# SPDX-License-Identifier: GPL-2.0-only
"""--coverage: what is built for it, where, and what comes of a run; with a real gcc and gcov, and
scripts for make and QEMU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.helpers.building import Workshop
from tests.harness.helpers.images import CONFIGS
from tests.harness.helpers.launcher import complaints
from vm.errors import Exit
from vm.guest import coverage as in_guest
from vm.guest.channel import Channel
from vm.run.stream import Records

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("git", "gcc", "gcov"))), reason="needs git and gcc"
)
#: Draws a page of what it reads: the lines that did not run.
GCOVR = """#!{python}
import gzip, json, sys
page = sys.argv[sys.argv.index("--html-details") + 1]
with gzip.open(sys.argv[-1] + "/coverage.gcov.json.gz") as file:
    (found,) = json.load(file)["files"]
lines = [line["line_number"] for line in found["lines"] if not line["count"]]
with open(page, "w") as file:
    file.write(f"{{found['file']}}: {{lines}}")
"""
CONFIG = f"{CONFIGS['x86']}CONFIG_CC_IS_GCC=y\n"
BEFORE = """/* Not code. */
int copies;
int copy_tree(int flags)
{
\tif (flags & 1)
\t\tcopies++;
\treturn 0;
}
int main(void)
{
\treturn copy_tree(1);
}
"""
#: A new refusal: one line of it runs, two do not, and the others hold no code.
AFTER = BEFORE.replace(
    "\treturn 0;\n",
    "\t/* Nothing of that kind. */\n\tif (flags & 2) {\n"
    "\t\tcopies--;\n\t\treturn -1;\n\t}\n\treturn 0;\n",
)


def git(workshop: Workshop, *words: str) -> None:
    settings = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *settings, *words], cwd=workshop.source, check=True)


@pytest.fixture
def patched(workshop: Workshop) -> Workshop:
    """A configured tree with a patch on top, and a script that passes for gcovr."""
    script = workshop.launcher.folder / "bin/gcovr"
    script.write_text(GCOVR.format(python=sys.executable))
    script.chmod(0o755)
    workshop.configure(CONFIG)
    (workshop.source / ".gitignore").write_text(".*\n!.gitignore\n*.o\n")
    file = workshop.source / "fs/namespace.c"
    file.parent.mkdir()
    git(workshop, "init", "--quiet")
    for text in (BEFORE, AFTER):
        file.write_text(text)
        git(workshop, "add", ".")
        git(workshop, "commit", "--quiet", "-m", "x")
    return workshop


def artefact(workshop: Workshop, name: str) -> Path:
    return workshop.launcher.folder / "out" / name


def test_the_lines_of_a_patch_that_did_not_run_are_named_and_no_others(patched: Workshop) -> None:
    words = ("--coverage-of", "HEAD~1..HEAD", "--fail-uncovered")
    done = patched.run("pass", *words, make="counts")
    assert done.returncode == Exit.UNCOVERED, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    at = lines.index("HEAD~1..HEAD: of 3 added or changed lines of code 2 did not run")
    assert lines[at + 1 :] == ["  fs/namespace.c:9: copies--;", "  fs/namespace.c:10: return -1;"]
    whole = json.loads(artefact(patched, "coverage.json").read_text())
    assert [place["line"] for place in whole["patch"]["not_run"]] == [9, 10]
    assert [place["line"] for place in whole["patch"]["run"]] == [8]
    assert "SF:" in artefact(patched, "coverage.info").read_text()
    page = artefact(patched, "coverage/index.html")
    assert page.read_text() == "fs/namespace.c: [9, 10]"
    assert str(page) in done.stderr


def test_without_the_option_the_status_is_that_of_the_cases(patched: Workshop) -> None:
    assert patched.run("pass", "--coverage-of", "HEAD~1", make="counts").returncode == Exit.OK
    words = ("--coverage-of", "HEAD~1", "--fail-uncovered")
    assert patched.run("fail", *words, make="counts").returncode == Exit.FAILED


def test_the_developers_build_is_left_alone(patched: Workshop) -> None:
    before = {path: path.stat().st_mtime_ns for path in patched.source.iterdir()}
    done = patched.run("pass", "--coverage", make="counts")
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in patched.source.iterdir()} == before
    row = next(line for line in done.stdout.splitlines() if line.startswith("fs/namespace.c"))
    assert row.split()[1] == "7/9"
    for call in patched.calls:
        assert not Path(call[1]).is_relative_to(patched.source)
        assert "GCOV_PROFILE_namespace.o=y" in call
        assert not any(word.startswith("O=") for word in call)


def test_where_no_pages_can_be_drawn_all_else_is_there(patched: Workshop) -> None:
    script = patched.launcher.folder / "bin/gcovr"
    script.write_text("#!/bin/sh\necho of no use >&2; exit 1")
    done = patched.run("pass", "--coverage", make="counts")
    assert done.returncode == Exit.OK
    assert complaints(done.stderr) == "vm: --coverage: no pages: gcovr: of no use\n"
    assert "copy_tree" in artefact(patched, "coverage.txt").read_text()


def test_a_guest_that_tells_nothing_is_said(patched: Workshop) -> None:
    done = patched.run("pass", "--coverage", make="build")
    assert done.returncode == Exit.NO_BISECTION
    assert "vm: --coverage: no guest came to tell which lines ran" in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--coverage", "fs/nothing.c"], "--coverage fs/nothing.c: not a file of C in"),
        (["--coverage-of", "HEAD"], "--coverage-of HEAD: adds or changes no line"),
        (["--coverage-of", "nonsense"], "--coverage-of nonsense: "),
        (["--coverage", "--repeat", "2"], "--coverage: is for one run"),
        (["--coverage", "--kernel", "other"], "--coverage: is for one run"),
        (["--coverage", "--system", "debian"], "--coverage: not in a complete system"),
        (["--fail-uncovered"], "--fail-uncovered needs --coverage-of"),
    ],
)
def test_what_does_not_apply_is_refused_with_a_hint(
    patched: Workshop, words: list[str], line: str
) -> None:
    done = patched.run("pass", *words)
    first, second = done.stderr.splitlines()
    assert first.startswith(f"vm: {line}")
    assert second.startswith("hint: ")
    assert not (patched.launcher.folder / "calls").exists()


def test_it_needs_a_build(patched: Workshop) -> None:
    done = patched.launcher.run("pass", "--coverage")
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("vm: --coverage needs --build\nhint: ")


def test_what_a_guest_sends_arrives(tmp_path: Path) -> None:
    folder = tmp_path / "gcov"
    (folder / "build/fs").mkdir(parents=True)
    (folder / "build/fs/namespace.gcda").write_bytes(b"counters\0")
    (folder / "build/fs/namespace.gcno").write_bytes(b"notes")
    with (tmp_path / "line").open("w+b") as line:
        in_guest.send(Channel(line.fileno(), "N", "init"), str(folder))
        line.seek(0)
        records = Records("N")
        records.feed(line.read())
    assert (records.coverage, records.lost) == ({"build/fs/namespace.gcda": b"counters\0"}, 0)
