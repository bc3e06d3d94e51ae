# SPDX-License-Identifier: GPL-2.0-only
"""Expectations of calls: the texts of their failures, and how outcomes compare."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from tests.open_tree_ns.conftest import pytest_assertrepr_compare
from tests.utils.expect import SUCCESS, Call, answer, explain, fails, outcome, shorthand
from tests.utils.tasks.process import in_child
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MS_BIND,
    MS_REC,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.uapi.syscalls import (
    MountAttrStruct,
    mount,
    mount_setattr,
    open_tree,
    open_tree_attr,
    setns,
    umount2,
    unshare,
)


def refuse(number: int) -> NoReturn:
    """End as a call that the kernel refuses."""
    raise OSError(number, os.strerror(number))


def message_of(expectation: Callable[[], object]) -> str:
    """Return the text *expectation* fails with."""
    with pytest.raises(pytest.fail.Exception) as caught:
        expectation()
    return str(caught.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (Call(setns, (7, CLONE_NEWUSER)), "setns(fd 7, CLONE_NEWUSER)"),
        (Call(setns, (7, 0)), "setns(fd 7, 0)"),
        (Call(unshare, (CLONE_NEWNS | CLONE_NEWUSER,)), "unshare(CLONE_NEWNS|CLONE_NEWUSER)"),
        (Call(umount2, (Path("/a"), MNT_DETACH)), "umount2('/a', MNT_DETACH)"),
        (Call(umount2, ("/",)), "umount2('/')"),
        (
            Call(mount, (None, "/a", None, MS_BIND | MS_REC)),
            "mount(None, '/a', None, MS_BIND|MS_REC)",
        ),
        (
            Call(open_tree, (AT_FDCWD, "/a", OPEN_TREE_NAMESPACE | 1 << 30)),
            "open_tree(AT_FDCWD, '/a', OPEN_TREE_NAMESPACE|0x40000000)",
        ),
        (
            Call(open_tree, (9, "", OPEN_TREE_NAMESPACE | AT_EMPTY_PATH)),
            "open_tree(fd 9, '', OPEN_TREE_NAMESPACE|AT_EMPTY_PATH)",
        ),
        (Call(open_tree, (9, "x", 1 << 33)), "open_tree(fd 9, 'x', 0x200000000)"),
        (
            Call(mount_setattr, (9, "", AT_EMPTY_PATH), {"attr_clr": MOUNT_ATTR_NOSUID}),
            "mount_setattr(fd 9, '', AT_EMPTY_PATH, attr_clr=MOUNT_ATTR_NOSUID)",
        ),
        (
            Call(open_tree_attr, (AT_FDCWD, "/a", AT_RECURSIVE, MountAttrStruct(attr_set=1), 32)),
            "open_tree_attr(AT_FDCWD, '/a', AT_RECURSIVE, {attr_set=0x1}, 32)",
        ),
        (Call(partial(setns, 7), (CLONE_NEWNS,)), "setns(fd 7, CLONE_NEWNS)"),
        (Call(os.rmdir, ("gone",), {"dir_fd": 5}), "rmdir('gone', dir_fd=5)"),
    ],
    ids=str,
)
def test_calls_are_spelt_as_in_the_headers(call: Call, text: str) -> None:
    """Descriptors, flags and structures have the kernel's names, of whatever call."""
    assert str(call) == text


def test_a_shorthand_is_spelt_as_the_call_it_makes() -> None:
    """A function made by shorthand() passes its arguments on, and texts name what it calls."""

    @shorthand
    def go(fd: int) -> partial[None]:
        return partial(setns, fd, CLONE_NEWNS)

    assert outcome(go, -1) == "EBADF"
    assert repr(outcome(go, -1)) == "setns(fd -1, CLONE_NEWNS) -> EBADF"


def test_fails_says_what_was_expected_and_what_came() -> None:
    """A call that ends otherwise fails with the call, both outcomes, and the result if any."""
    fails(errno.EINVAL, refuse, errno.EINVAL)
    assert message_of(lambda: fails(errno.EINVAL, setns, -1, CLONE_NEWUSER)) == (
        "setns(fd -1, CLONE_NEWUSER): expected EINVAL, got EBADF"
    )
    assert message_of(lambda: fails(errno.EINVAL, os.stat, "/missing")) == (
        "stat('/missing'): expected EINVAL, got ENOENT"
    )
    assert message_of(lambda: fails(errno.EINVAL, os.getpgid, 0)) == (
        f"getpgid(0): expected EINVAL, succeeded with {os.getpgid(0)}"
    )
    assert message_of(lambda: fails(errno.EINVAL, unshare, 0)) == (
        "unshare(0): expected EINVAL, succeeded with 0"
    )


def test_fails_shows_the_line_of_the_case(pytester: pytest.Pytester) -> None:
    """The traceback ends in the case, at the call of fails(), in a loop as anywhere."""
    pytester.makepyfile(
        """
        import errno, os
        from tests.utils.expect import fails

        def test_it():
            for place in ("/missing", "/"):
                fails(errno.ENOENT, os.stat, place)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.re_match_lines(
        [
            r">  +fails\(errno.ENOENT, os.stat, place\)",
            r"E  +Failed: stat\('/'\): expected ENOENT, succeeded with os.stat_result.*",
            r"test_\S+\.py:6: Failed",
        ]
    )


def test_outcomes_are_their_text() -> None:
    """An outcome equals the name of the errno, or "success", and shows its call."""
    end = outcome(os.stat, "/missing")
    assert (end, {end}) == ("ENOENT", {"ENOENT"})
    assert repr(end) == "stat('/missing') -> ENOENT"
    assert outcome(unshare, 0) == SUCCESS == "success"
    assert (answer(os.getpgid, 0), answer(os.stat, "/missing")) == (os.getpgid(0), "ENOENT")


def test_outcomes_come_from_a_child_process() -> None:
    """Pickled, an outcome keeps the text of its call."""
    end = in_child(lambda: outcome(os.listdir, Path("/missing")))
    assert (end, repr(end)) == ("ENOENT", "listdir('/missing') -> ENOENT")
    assert pickle.loads(pickle.dumps(outcome(unshare, 0))).against("EPERM") == (
        "unshare(0): expected EPERM, succeeded with 0"
    )
    text = pickle.loads(pickle.dumps(outcome(os.path.dirname, "/of/it"))).against("EPERM")
    assert text.endswith(": expected EPERM, succeeded with '/of'")


def test_comparisons_name_the_calls_that_differ() -> None:
    """explain() tells, however deep the outcomes are in what is compared, which of them differ."""
    missing, fine = outcome(os.stat, "/missing"), outcome(unshare, 0)
    assert explain(missing, "EPERM") == ["stat('/missing'): expected EPERM, got ENOENT"]
    assert explain("EPERM", missing) == ["stat('/missing'): expected EPERM, got ENOENT"]
    assert explain({"a": missing, "b": fine}, {"a": "ENOENT", "b": "EPERM"}) == [
        "b: unshare(0): expected EPERM, succeeded with 0"
    ]
    assert explain({"a": {"b": [missing, 1]}, "c": 2}, {"a": {"b": ["EPERM", 1]}, "d": 3}) == [
        "3 differ from what was expected",
        "d: expected 3, not there",
        "a: b: [0] stat('/missing'): expected EPERM, got ENOENT",
        "c: not expected, found 2",
    ]
    assert explain([missing], []) == [
        "expected [], found [stat('/missing') -> ENOENT]",
    ]
    assert explain({"a": ({missing: 2}, 1)}, {"a": ({"EPERM": 2}, 1)}) == [
        "a: [0] stat('/missing'): expected EPERM, got ENOENT"
    ]
    assert explain("ENOENT", "EPERM") is None
    assert explain({"a": 1}, {}) is None


def test_the_cases_compare_so() -> None:
    """The kernel cases' failures are explained so, for == and no other comparison."""
    missing = outcome(os.stat, "/missing")
    assert pytest_assertrepr_compare("==", missing, "EPERM") == explain(missing, "EPERM")
    assert pytest_assertrepr_compare("!=", missing, "ENOENT") is None
    assert pytest_assertrepr_compare("==", 1, 2) is None
