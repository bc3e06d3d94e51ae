# SPDX-License-Identifier: GPL-2.0-only
"""Which lines of the kernel's are complaints, and which lines belong to one."""

from __future__ import annotations

import pytest

from tests.utils.watch.complaints import complaints, is_complaint


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: fs/namespace.c:3215 at create_new_namespace+0x11/0x2b0, CPU#0: case-22/40",
        "WARNING: CPU: 0 PID: 40 at fs/namespace.c:3215 create_new_namespace+0x11/0x2b0",
        "WARNING: possible circular locking dependency detected",
        "WARNING: possible recursive locking detected",
        "WARNING: inconsistent lock state",
        "WARNING: suspicious RCU usage",
        "INFO: possible recursive locking detected",
        "[ INFO: suspicious RCU usage. ]",
        "INFO: trying to register non-static key.",
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "BUG: KASAN: slab-use-after-free in mntput_no_expire+0x1/0x2",
        "BUG: KCSAN: data-race in a / b",
        "BUG: KFENCE: use-after-free read in mntput+0x1/0x2",
        "BUG: KMSAN: uninit-value in x",
        "BUG: sleeping function called from invalid context at fs/namespace.c:1",
        "BUG: Dentry 00000000 still in use (1) [unmount of tmpfs tmpfs]",
        "BUG mnt_cache (Not tainted): Object already free",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [case-22:40]",
        "kernel BUG at fs/namespace.c:1!",
        "Oops: Oops: 0002 [#1] SMP NOPTI",
        "Oops: 0002 [#1] SMP NOPTI",
        "Internal error: Oops: 0000000096000004 [#1] SMP",
        "divide error: 0000 [#1] PREEMPT SMP",
        "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1]",
        "general protection fault: 0000 [#1] SMP",
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008",
        "Kernel attempted to read user page (8) - exploit attempt? (uid: 0)",
        "INFO: task case-22:40 blocked for more than 120 seconds.",
        "INFO: task case-22:40 is blocked on a mutex likely owned by task case-23:41.",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-... }",
        "INFO: rcu_preempt detected stalls on CPUs/tasks: {",
        "INFO: rcu_tasks detected stalls on tasks:",
        "UBSAN: array-index-out-of-bounds in fs/namespace.c:1:2",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "refcount_t: underflow; use-after-free.",
        "list_del corruption. prev->next should be a, but was b",
        "VFS: Busy inodes after unmount of tmpfs (tmpfs)",
        "Kernel panic - not syncing: Attempted to kill init!",
    ],
)
def test_a_complaint_is_recognised(line: str) -> None:
    assert is_complaint(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "proc: VFS: Mount too revealing",
        "VFS: Mount too revealing",
        "overlayfs: WARNING: by a file system, in the middle of its line",
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
        "WARNING: 'bootconfig' found on the kernel command line but it is not configured",
        "INFO: NMI handler (x) took too long to run: 1.200 msecs",
        "Kernel command line: oops=panic panic=-1",
        "rcu: RCU lockdep checking is enabled.",
        "case-22 (40) used greatest stack depth: 12296 bytes left",
        "systemd[1]: BUG: of a program",
        "BUGGY hardware",
    ],
)
def test_an_ordinary_line_is_none(line: str) -> None:
    assert not is_complaint(line)


FAULT = [
    "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "#PF: supervisor read access in kernel mode",
    "Oops: Oops: 0000 [#1] SMP",
    "CPU: 0 UID: 0 PID: 40 Comm: case-22 Not tainted",
    "Call Trace:",
]
WARN = ["WARNING: CPU: 0 PID: 41 at fs/x.c:1", "CPU: 0 UID: 0 PID: 41 Comm: case-23 Not tainted"]


def test_the_lines_of_one_complaint_stay_together() -> None:
    found = list(complaints(["ordinary", *FAULT, *WARN, "ordinary"]))
    assert [one.places for one in found] == [[1, 3], [6]]
    assert [one.lines for one in found] == [FAULT, [*WARN, "ordinary"]]
    assert found[0].message == FAULT[0]


def test_what_says_no_name_is_one_with_what_follows_at_once() -> None:
    refcount = "refcount_t: underflow; use-after-free."
    found = list(
        complaints([refcount, *WARN, refcount, "------------[ cut here ]------------", *WARN])
    )
    assert [one.places for one in found] == [[0, 1], [3], [5]]
    assert list(complaints(["ordinary"])) == []
