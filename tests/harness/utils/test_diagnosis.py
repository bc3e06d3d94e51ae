# SPDX-License-Identifier: GPL-2.0-only
"""What a failure is about: calls with their arguments, from whatever exception failed the case."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import enter
from tests.open_tree_ns.conftest import pytest_assertrepr_compare
from tests.utils.deviation import Deviation
from tests.utils.diagnosis import deviation_of
from tests.utils.expect import fails, outcome
from tests.utils.model.lines import Lines
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.tasks.process import in_child
from tests.utils.uapi.constants import AT_FDCWD, AT_RECURSIVE, CLONE_NEWNS, OPEN_TREE_NAMESPACE
from tests.utils.uapi.syscalls import open_tree, setns, umount2, unshare

FLAGS = OPEN_TREE_NAMESPACE | AT_RECURSIVE
#: Whatever the kernel: the path is missing, or so is the flag.
MISSING = Path("/missing")


def failure(function: Callable[[], object]) -> Deviation:
    """Return what the failure of *function* is about."""
    try:
        function()
    except (Exception, pytest.fail.Exception) as error:
        return deviation_of(error)
    raise AssertionError("it did not fail")


def test_an_expectation_says_what_deviated() -> None:
    assert failure(lambda: fails(errno.EPERM, setns, -1, CLONE_NEWNS)) == Deviation(
        "setns(fd -1, CLONE_NEWNS)", expected="EPERM", came="got EBADF"
    )
    assert failure(lambda: fails(errno.EPERM, unshare, 0)).line == (
        "unshare(0): expected EPERM, succeeded"
    )


def test_a_refused_call_is_spelt_from_its_frame() -> None:
    found = failure(lambda: umount2("/missing"))
    assert found == Deviation("umount2('/missing')", expected="success", came="got ENOENT")
    assert failure(lambda: enter(-1)).line == (
        "setns(fd -1, CLONE_NEWNS): expected success, got EBADF"
    )
    found = failure(lambda: open_tree(AT_FDCWD, MISSING, FLAGS))
    assert found.call == "open_tree(AT_FDCWD, '/missing', OPEN_TREE_NAMESPACE|AT_RECURSIVE)"
    assert failure(lambda: os.listdir("/missing")).line == (
        'os.listdir("/missing"): expected success, got ENOENT'
    )


def test_a_refusal_for_privilege_names_its_rule() -> None:
    def refused() -> None:
        error = OSError(errno.EPERM, "open_tree: Operation not permitted")
        namespace = {"__name__": "tests.utils.uapi.syscalls", "error": error}
        source = "def open_tree(dirfd, path, flags):\n    raise error\n"
        file = Path(__file__).parents[1] / "utils/uapi/syscalls.py"
        exec(compile(source, str(file), "exec"), namespace)
        call: Callable[..., None] = namespace["open_tree"]  # type: ignore[assignment]
        call(AT_FDCWD, "/a", FLAGS)

    assert failure(refused).rule == "U1"


def test_what_a_child_or_a_thread_raised_is_as_good() -> None:
    expected = Deviation("umount2('/missing')", expected="success", came="got ENOENT")
    assert failure(lambda: in_child(lambda: umount2("/missing"))) == expected

    def asserts() -> None:
        fails(errno.EPERM, unshare, 0)

    assert failure(lambda: in_child(asserts)).line == "unshare(0): expected EPERM, succeeded"
    thread = NamespaceThread()
    thread._thread.start()
    assert failure(lambda: thread.run(lambda: umount2("/missing"))) == expected
    thread._orders.put(None)


def test_a_comparison_of_outcomes_names_the_first_that_differs() -> None:
    def case() -> None:
        found = {"fine": outcome(unshare, 0), "bad": outcome(setns, -1, CLONE_NEWNS)}
        expected = {"fine": "success", "bad": "EINVAL"}
        pytest_assertrepr_compare("==", found, expected)
        assert found == expected

    assert failure(case).line == "setns(fd -1, CLONE_NEWNS): expected EINVAL, got EBADF"


def test_of_other_comparisons_the_last_call_before_is_named() -> None:
    def case() -> None:
        flags = CLONE_NEWNS & 0
        unshare(flags)
        found = {"names": ["a", "b"]}
        pytest_assertrepr_compare("==", found, {"names": ["a", "c"]})
        assert found == {"names": ["a", "c"]}

    assert failure(case) == Deviation("unshare(0)", "found: names: [1]", "'c'", "found 'b'")


def test_a_plain_assert_is_its_own_text() -> None:
    def case() -> None:
        unshare(0)
        names = ["a"]
        assert "b" in names

    assert failure(case) == Deviation("unshare(0)", came="not so: 'b' in names")


def test_any_other_exception_is_its_first_line() -> None:
    def case() -> None:
        raise ValueError("no good\nat all")

    assert failure(case) == Deviation(came="no good")


LINE = "/a  tmpfs:0:30:/  source 's'  no attributes  PRIVATE"
TOP = "/  tmpfs:0:30:/  source 's'  no attributes  PRIVATE"


@pytest.mark.parametrize(
    ("expected", "found", "line", "rule"),
    [
        ([TOP, LINE], [TOP], "the copy: expected a mount at '/a', there is none", "C2"),
        ([TOP, LINE.replace("PRIVATE", "UNBINDABLE")], [TOP], "", "C7"),
        ([TOP], [TOP, LINE], "the copy: expected no other mount, there is one at '/a'", "C1"),
        ([TOP], [TOP, LINE.replace("tmpfs", "nsfs")], "", "C8"),
        ([LINE], [LINE.replace("no attributes", "ATTR_RDONLY")], "", "C5"),
        ([LINE], [LINE.replace(":/  ", ":/dir  ")], "", "C3"),
        ([LINE], [LINE.replace("0:30", "0:31")], "", "C4"),
        (
            [LINE.replace("PRIVATE", "SLAVE  master 3")],
            [LINE.replace("PRIVATE", "SHARED  peer group 3")],
            "propagation of the copied mount '/a': expected SLAVE, found SHARED",
            "G2",
        ),
        ([f"{LINE}  peer group 3"], [LINE], "", "G1"),
        ([LINE], ["EINVAL"], "", "C2"),
    ],
)
def test_the_model_names_the_rule_of_copying(
    expected: list[str], found: list[str], line: str, rule: str
) -> None:
    deviation = Lines(expected).deviation(found)
    assert deviation.rule == rule
    assert line in ("", deviation.line)


def test_a_copy_that_is_not_as_predicted_is_described_by_the_model() -> None:
    def case() -> None:
        expected, copied = Lines([TOP, LINE]), [TOP]
        unshare(0)
        pytest_assertrepr_compare("==", copied, expected)
        assert copied == expected

    found = failure(case)
    assert (found.call, found.rule) == ("unshare(0)", "C2")
    assert found.line == "unshare(0): the copy: expected a mount at '/a', there is none"


def test_a_diagnosis_that_fails_hides_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.utils.diagnosis._diagnosed", lambda _: 1 / 0)
    assert deviation_of(ValueError("the case's own")) == Deviation(came="the case's own")
