# SPDX-License-Identifier: GPL-2.0-only
"""What the private environments install: the releases of the lock, and each file by its hash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm import pins
from vm.errors import Problem
from vm.initramfs import python

LOCK = """# A head: uv pip compile example
aaa==1.0 \\
    --hash=sha256:00 \\
    --hash=sha256:01
    # via example (pyproject.toml)
b-b-b==2.1 ; sys_platform == 'linux' \\
    --hash=sha256:02
    # via aaa
ccc==3.0 \\
    --hash=sha256:03
    # via
    #   b-b-b
    #   ddd
ddd==4.0 \\
    --hash=sha256:04
    # via example (pyproject.toml)
"""


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").write_text(LOCK)
    monkeypatch.setattr(pins, "LOCK", tmp_path / "lock")


@pytest.mark.usefixtures("lock")
def test_what_is_wanted_comes_with_what_it_asks_for() -> None:
    text = pins.pinned(["aaa>=0.9"])
    assert re.findall(r"^\S+", text, re.M) == ["aaa==1.0", "b-b-b==2.1", "ccc==3.0"]
    assert text.count("--hash=sha256:") == 4
    assert "; sys_platform == 'linux'" in text
    assert re.findall(r"^\S+", pins.pinned(["DDD"]), re.M) == ["ccc==3.0", "ddd==4.0"]
    assert pins.pinned(["b_b.b"]).startswith("b-b-b==2.1")


@pytest.mark.usefixtures("lock")
def test_what_is_not_in_the_lock_is_refused() -> None:
    with pytest.raises(Problem, match=r"does not have eee\nhint: renew it"):
        pins.pinned(["aaa", "eee>=1"])


@pytest.mark.parametrize("extra", ["", "dev", "model", "virtme-ng", "coverage"])
def test_the_lock_has_all_that_the_project_declares(extra: str) -> None:
    for requirement in python.requirements(extra):
        name, least = re.split(r">=", requirement)
        found = re.search(rf"^{pins.normal(name)}==([0-9.]+)", pins.pinned([requirement]), re.M)
        assert found, requirement
        assert [*map(int, found[1].split("."))] >= [*map(int, least.split("."))], requirement


def test_every_file_has_a_hash() -> None:
    entries = pins._entries()
    assert len(entries) > 20
    for lines, askers in entries.values():
        assert re.fullmatch(
            r"\S+==\S+( ; [^\\]+)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+\n", lines
        )
        assert askers
