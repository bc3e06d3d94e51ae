# SPDX-License-Identifier: GPL-2.0-only
"""The lines of a patch: what git's diff adds, and which of them did not run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vm.coverage import table
from vm.coverage.counts import Counts, File, Line
from vm.coverage.patch import Place, added, changed, judge
from vm.errors import Exit, Problem

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
DIFF = """diff --git a/fs/namespace.c b/fs/namespace.c
index 1..2 100644
--- a/fs/namespace.c
+++ b/fs/namespace.c
@@ -3 +3,2 @@ int copy_tree(void)
-\told();
+\tnew();
+++ b/this/is/a/line
@@ -9,2 +10,0 @@
-gone
-+++ b/gone
@@ -20,0 +20 @@
+last
\\ No newline at end of file
diff --git a/a name b/a name
--- /dev/null
+++ b/a name\t
@@ -0,0 +1 @@
+text
"""


def test_what_a_diff_adds_is_read_line_by_line() -> None:
    assert added(DIFF) == [
        Place("fs/namespace.c", 3, "\tnew();"),
        Place("fs/namespace.c", 4, "++ b/this/is/a/line"),
        Place("fs/namespace.c", 20, "last"),
        Place("a name", 1, "text"),
    ]


def test_a_line_that_holds_no_code_is_not_counted() -> None:
    counts: Counts = {
        "fs/namespace.c": File({3: Line("copy_tree", 2), 20: Line("copy_tree", 0)}),
        "fs/other.c": File({1: Line("other", 0)}),
    }
    judged = judge([*added(DIFF), Place("fs/unbuilt.c", 1, "x();")], counts)
    assert [place.line for place in judged.run] == [3]
    assert [str(place) for place in judged.not_run] == ["fs/namespace.c:20: last"]
    assert judged.uncounted == ["fs/unbuilt.c"]
    assert list(table.patch(judged, "A..B")) == [
        "A..B: of 2 added or changed lines of code 1 did not run",
        "  fs/namespace.c:20: last",
        "  fs/unbuilt.c: not part of this kernel",
    ]


class Repository:
    """A git tree of one file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "fs").mkdir(parents=True)
        self.file = folder / "fs/namespace.c"
        self.git("init", "--quiet")
        self.commit("a\nb\nc\n")

    def git(self, *words: str) -> None:
        settings = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
        subprocess.run(
            ["git", *settings, *words],
            cwd=self.folder,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )

    def commit(self, text: str) -> None:
        self.file.write_text(text)
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "x")

    def changed(self, revisions: str) -> list[tuple[int, str]]:
        return [(place.line, place.text) for place in changed(self.folder, revisions)]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "linux")


@needs_git
def test_a_series_is_named_by_its_two_ends(repository: Repository) -> None:
    repository.commit("a\nB\nc\n")
    repository.commit("a\nB\nc\nd\n")
    assert repository.changed("HEAD~2..HEAD") == [(2, "B"), (4, "d")]
    assert repository.changed("HEAD~1..HEAD") == [(4, "d")]


@needs_git
def test_what_is_not_committed_is_what_the_tree_has_beyond_a_revision(
    repository: Repository,
) -> None:
    repository.commit("a\nB\nc\n")
    repository.file.write_text("a\nB\nc\ne\n")
    assert repository.changed("HEAD") == [(4, "e")]
    assert repository.changed("HEAD~1") == [(2, "B"), (4, "e")]


@needs_git
def test_what_is_built_must_be_what_the_series_ends_with(repository: Repository) -> None:
    repository.commit("a\nB\nc\n")
    repository.file.write_text("new\na\nB\nc\n")
    with pytest.raises(Problem, match=r"fs/namespace.c is not as HEAD has it.*\nhint: ") as caught:
        repository.changed("HEAD~1..HEAD")
    assert caught.value.status is Exit.USAGE


@needs_git
@pytest.mark.parametrize(
    "revisions", ["nonsense", "HEAD..nonsense", "..HEAD", "HEAD..", "-p", "a...b"]
)
def test_what_is_no_revision_is_refused_with_a_hint(repository: Repository, revisions: str) -> None:
    with pytest.raises(Problem, match=r"^--coverage-of .*\nhint: ") as caught:
        repository.changed(revisions)
    assert caught.value.status is Exit.USAGE
