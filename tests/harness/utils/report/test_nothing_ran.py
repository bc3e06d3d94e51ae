# SPDX-License-Identifier: GPL-2.0-only
"""A run that skips all the kernel cases it chose is not green; a run of other tests may be."""

from __future__ import annotations

import pytest

from tests.harness.helpers.suite import RunCases

WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
CASE = "\n@pytest.mark.isolated\ndef test_"
LINE = "nothing was tested: all 2 kernel cases were skipped: no such feature"


def run(run_cases: RunCases, source: str, *arguments: str) -> tuple[int, str]:
    """The exit status and the output of a run of *source*."""
    words = ("-p", "tests.utils.report.nothing_ran", "-p", "no:cacheprovider", *arguments)
    done = run_cases(source, *words, header="import pytest\n")
    return done.ret, done.text


@WORKERS
def test_skips_alone_are_not_green(run_cases: RunCases, workers: tuple[str, ...]) -> None:
    skips = f"{CASE}body(): pytest.skip('no such feature')"
    skips += f"\n@pytest.mark.skip(reason='no such feature'){CASE}mark(): pass"
    others = "\ndef test_other(): pass\ndef test_other_skip(): pytest.skip('another reason')"
    status, text = run(run_cases, skips + others, *workers, "-rs")
    assert status == pytest.ExitCode.NO_TESTS_COLLECTED
    assert text.count(LINE) == 1
    assert text.splitlines()[-1] == LINE


def test_the_commonest_reason_is_named(run_cases: RunCases) -> None:
    reasons = ("rare", "common", "common")
    source = "".join(f"{CASE}{n}(): pytest.skip('{why}')" for n, why in enumerate(reasons))
    _, text = run(run_cases, source)
    assert "all 3 kernel cases were skipped; 2 of them: common" in text


@pytest.mark.parametrize(
    ("source", "status"),
    [
        (f"{CASE}passes(): pass", 0),
        (f"\n@pytest.mark.xfail{CASE}xfails(): assert 0", 0),
        (f"{CASE}fails(): assert 0", 1),
        (f"\n@pytest.fixture\ndef broken(): assert 0{CASE}breaks(broken): pass", 1),
    ],
    ids=["passes", "xfails", "fails", "breaks"],
)
def test_one_case_that_ran_is_something(run_cases: RunCases, source: str, status: int) -> None:
    found, text = run(run_cases, f"{CASE}skips(): pytest.skip('no')" + source)
    assert found == status
    assert "nothing was tested" not in text


@pytest.mark.parametrize(
    ("source", "arguments", "status"),
    [
        ("def test(): pytest.skip('no')", (), 0),
        (f"{CASE}skips(): pytest.skip('no')", ("--collect-only",), 0),
        (f"{CASE}skips(): pytest.skip('no')", ("-k", "other"), 5),
        ("", (), 5),
    ],
    ids=["other", "listed", "deselected", "empty"],
)
def test_a_run_without_kernel_cases_ends_as_ever(
    run_cases: RunCases, source: str, arguments: tuple[str, ...], status: int
) -> None:
    found, text = run(run_cases, source, *arguments)
    assert found == status
    assert "nothing was tested" not in text
