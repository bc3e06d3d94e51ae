# SPDX-License-Identifier: GPL-2.0-only
"""What is told from a guest's console: complaints, and where the kernel was."""

from __future__ import annotations

import pytest

from vm.run import console


@pytest.mark.parametrize(
    "line",
    [
        "[    1.000000] Kernel panic - not syncing: Attempted to kill init!",
        "Kernel panic - not syncing: no stamp",
        "<4>[    1.0] BUG: KASAN: slab-use-after-free in mntput+0x1/0x2",
        "[    1.0][    T1] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[    1.0][   C12] WARNING: suspicious RCU usage\r\n",
    ],
)
def test_a_complaint_is_recognised_behind_its_time_stamp(line: str) -> None:
    assert console.splats([line]) == [line]


def test_ordinary_lines_are_no_complaint() -> None:
    assert console.splats(["[    0.1] Spectre V2 : WARNING: by the way", "[    0.1] INFO: x"]) == []


OOPS = """\
[    1.0] RIP: 0033:0x7f12
[    2.0] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    2.0] Oops: 0002 [#1] SMP NOPTI
[    2.0] RIP: 0010:copy_tree+0x16/0x20
[    2.0] Call Trace:
[    2.0]  <TASK>
[    2.0]  ? __die+0x1/0x2
[    2.0]  vfs_open_tree+0x129/0x338
[    2.0]  ? stale+0x1/0x2
[    2.0]  __x64_sys_open_tree+0x4f/0xb1 [a_module]
[    2.0]  </TASK>
[    2.0] Modules linked in:
[    2.0]  not_of_the_trace+0x1/0x2
"""
UML_OOPS = """\
RIP: 0033:create_new_namespace+0x1d4/0x472
Kernel panic - not syncing: Kernel mode fault at addr 0x8, ip 0x60198d3f
Stack:
 808cbc40 605b96fc 00000001 605b96fc
Call Trace:
 [<60199106>] vfs_open_tree+0x129/0x338
 [<600374e9>] ? copy_chunk_to_user+0x0/0x29
 [<60199d8c>] sys_open_tree+0x4f/0xb1
"""
REPORTED = """\
[    1.0][    T1] BUG: KASAN: slab-use-after-free in mntput+0x1/0x2
[    1.0][    T1] Call Trace:
[    1.0][    T1]  <TASK>
[    1.0][    T1]  dump_stack_lvl+0x5d/0x80
[    1.0][    T1]  print_report+0xd1/0x650
[    1.0][    T1]  kasan_report+0xce/0x100
[    1.0][    T1]  panic_was_before_me+0x0/0x95
[    1.0][    T1]  mntput+0x1/0x2
[    1.0][    T1]  path_put+0x1/0x2
[    1.0][    T1]  mntput+0x1/0x2
"""


@pytest.mark.parametrize(
    ("log", "frames"),
    [
        (
            OOPS,
            ["copy_tree+0x16/0x20", "vfs_open_tree+0x129/0x338", "__x64_sys_open_tree+0x4f/0xb1"],
        ),
        (
            UML_OOPS,
            [
                "create_new_namespace+0x1d4/0x472",
                "vfs_open_tree+0x129/0x338",
                "sys_open_tree+0x4f/0xb1",
            ],
        ),
        (REPORTED, ["mntput+0x1/0x2", "path_put+0x1/0x2"]),
        ("[    1.0] BUG: without a trace\n", []),
        ("[    1.0] all is well\n[    1.0] Call Trace:\n[    1.0]  x+0x1/0x2\n", []),
        ("", []),
    ],
    ids=["oops", "uml", "reported", "no trace", "no complaint", "nothing"],
)
def test_the_functions_on_top_of_the_stack_are_found(log: str, frames: list[str]) -> None:
    assert console.top_frames(log.splitlines()) == frames


def test_only_the_top_of_a_deep_stack_is_shown() -> None:
    trace = [" ".join(["", f"f{n}+0x1/0x2"]) for n in range(30)]
    assert console.top_frames(["BUG: x", "Call Trace:", *trace]) == [
        f"f{n}+0x1/0x2" for n in range(5)
    ]
