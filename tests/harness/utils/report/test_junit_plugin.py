# SPDX-License-Identifier: GPL-2.0-only
"""`--junitxml`: where it is written, and what it says of a session that broke off."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.harness.helpers.suite import HEADER, PLUGIN

PLUGINS = (*PLUGIN, "-p", "tests.utils.report.junit_plugin", "-p", "no:cacheprovider")
WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])


def suite(path: Path) -> ElementTree.Element:
    """The suite in a report."""
    found = ElementTree.parse(path).find("testsuite")
    assert found is not None
    return found


def cases(path: Path) -> dict[str, list[str]]:
    """Name -> the elements of the case."""
    return {str(c.get("name")): [e.tag for e in c] for c in suite(path).iter("testcase")}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt while this case ran"),
        ("pytest.exit('enough')", "enough while this case ran"),
    ],
    ids=["Ctrl-C", "exit"],
)
def test_a_session_that_broke_off_is_never_a_good_one(
    pytester: pytest.Pytester, body: str, why: str
) -> None:
    pytester.makepyfile(f"{HEADER}\ndef test_one(): pass\ndef test_two(): {body}\n")
    pytester.runpytest_subprocess(*PLUGINS, "--junitxml=out.xml")
    path = pytester.path / "out.xml"
    assert cases(path) == {"test_one": [], "test_two": ["error"]}
    (error,) = suite(path).iter("error")
    assert error.get("message") == why
    assert suite(path).findtext("system-err")


def test_a_session_that_broke_off_between_cases_has_a_case_for_it(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_logstart(nodeid):\n"
        "    if 'two' in nodeid: pytest.exit('enough')\n"
    )
    pytester.makepyfile("def test_one(): pass\ndef test_two(): pass\n")
    pytester.runpytest_subprocess(*PLUGINS, "--junitxml=out.xml")
    assert cases(pytester.path / "out.xml") == {"test_one": [], "session": ["error"]}


@WORKERS
def test_an_internal_error_is_an_error(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    pytester.makeconftest("def pytest_runtest_logreport(report): raise OSError(5, 'in a hook')")
    pytester.makepyfile("def test_one(): pass\n")
    done = pytester.runpytest_subprocess(*PLUGINS, *workers, "--junitxml=out.xml")
    assert done.ret == pytest.ExitCode.INTERNAL_ERROR
    assert ["error"] in cases(pytester.path / "out.xml").values()
    assert "in a hook" in (pytester.path / "out.xml").read_text()


@WORKERS
def test_a_session_that_stopped_early_says_so(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(HEADER + "".join(f"def test_{n}(): assert 0\n" for n in range(50)))
    pytester.runpytest_subprocess(*PLUGINS, *workers, "-x", "--junitxml=out.xml")
    path = pytester.path / "out.xml"
    assert suite(path).findtext("system-err") == "stopping after 1 failures"
    assert set(map(tuple, cases(path).values())) == {("failure",)}


def test_a_dead_worker_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import os\ndef test_one(): os._exit(1)\ndef test_two(): pass\n")
    pytester.runpytest_subprocess(*PLUGINS, "-n", "1", "--junitxml=out.xml")
    assert cases(pytester.path / "out.xml") == {"test_one": ["error"], "test_two": []}


def test_names_are_those_of_pytests_own_report(pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("sub") / "deep"
    folder.mkdir()
    (folder / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('x', ['a/b', 'a::b', 'a.py', '[', ']', 'é', ''])\n"
        "def test_one(x): pass\n"
        "class TestIt:\n"
        "    class TestInner:\n"
        "        def test_two(self): pass\n"
    )
    found = []
    for options in (PLUGINS, ("-p", "no:cacheprovider")):
        pytester.runpytest_subprocess(*options, "--junitxml=out.xml", "--junitprefix=pre.fix")
        found.append(
            [
                (case.get("classname"), case.get("name"))
                for case in suite(pytester.path / "out.xml").iter("testcase")
            ]
        )
    ours, pytests = found
    assert len(pytests) == 8
    assert ours == pytests


def test_the_file_is_where_pytest_would_put_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "new/folder")
    pytester.makepyfile("def test_one(): pass\n")
    done = pytester.runpytest_subprocess(
        *PLUGINS, "--junit-xml=$PLACE/out.xml", "-o", "junit_suite_name=named"
    )
    path = pytester.path / "new/folder/out.xml"
    done.stdout.fnmatch_lines([f"*generated xml file: {path}*"])
    assert suite(path).get("name") == "named"
    quiet = pytester.runpytest_subprocess(*PLUGINS, "--junitxml=out.xml", "-q")
    quiet.stdout.no_fnmatch_line("*generated xml*")


def test_a_place_that_cannot_be_written_is_told_before_anything_runs(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_one(): pass\n")
    done = pytester.runpytest_subprocess(*PLUGINS, "--junitxml=/proc/none/out.xml")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --junitxml=/proc/none/out.xml: *"])
    done.stdout.no_fnmatch_line("*passed*")


def test_a_listing_writes_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(): pass\n")
    pytester.runpytest_subprocess(*PLUGINS, "--junitxml=out.xml", "--collect-only")
    assert not (pytester.path / "out.xml").exists()


def test_runs_of_one_case_side_by_side_are_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(): pass\n")
    done = pytester.runpytest_subprocess(*PLUGINS, "--junitxml=o", "-n2", "--dist=each")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --junitxml cannot tell apart *--dist=each"])
