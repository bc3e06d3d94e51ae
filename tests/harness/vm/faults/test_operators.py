# SPDX-License-Identifier: GPL-2.0-only
"""What each operator makes of a function, and that ids outlive changes elsewhere in it."""

from __future__ import annotations

from vm.faults import c, operators

SOURCE = """
static int add(struct mount *mnt, int flags)
{
	struct mount *p;

	guard(namespace_excl)();
	if (!check_mnt(mnt) || unlikely(busy(mnt) && !(flags & MNT_FORCE)))
		return -EINVAL;
	if (flags & MNT_DETACH)
		mntput(mnt);
	lock_mount_hash();
	for (p = mnt; p; p = next_mnt(p))
		attach(p,
				flags);
	mnt->mnt_ns = NULL;
	p->flags |= MNT_LOCKED;
	flags = MNT_LOCKED | MNT_SYNC |
		MNT_UMOUNT;
	unlock_mount_hash();
	switch (flags) {
	case MNT_A | MNT_B:
		return -EPERM;
	}
	return p && flags;
}
"""


def made(source: str = SOURCE) -> dict[str, str]:
    """Id -> text that stands there with the fault, of all operators."""
    code = c.masked(source)
    found = operators.changes(source, code, c.functions(code)["add"])
    return {
        name.removeprefix("fs/x.c:add:"): change.text
        for name, change in operators.named("fs/x.c", "add", found)
    }


def test_each_operator_makes_what_it_says() -> None:
    condition = "!check_mnt(mnt) || unlikely(busy(mnt) && !(flags & MNT_FORCE))"
    assert made() == {
        _long(f"never:{condition}"): "0",
        "drop:!check_mnt(mnt)": "0",
        "drop:unlikely(busy(mnt) && !(flags & MNT_FORCE))": "0",
        "drop:busy(mnt)": "1",
        "drop:!(flags & MNT_FORCE)": "1",
        "invert:flags & MNT_DETACH": "!(flags & MNT_DETACH)",
        "never:flags & MNT_DETACH": "0",
        "drop:p": "1",
        "drop:flags": "1",
        "flag:MNT_LOCKED of MNT_LOCKED | MNT_SYNC | MNT_UMOUNT": "MNT_SYNC | MNT_UMOUNT",
        "flag:MNT_SYNC of MNT_LOCKED | MNT_SYNC | MNT_UMOUNT": "MNT_LOCKED | MNT_UMOUNT",
        "flag:MNT_UMOUNT of MNT_LOCKED | MNT_SYNC | MNT_UMOUNT": "MNT_LOCKED | MNT_SYNC",
        _long(f"errno:-EINVAL of if ({condition}) return"): "-EPERM",
        "errno:-EPERM of case MNT_A | MNT_B: return": "-EINVAL",
        "store:mnt->mnt_ns = NULL": "",
        "store:p->flags |= MNT_LOCKED": "",
        "call:attach(p, flags)": "",
    }


def _long(name: str) -> str:
    return next(one for one in made() if one.startswith(name[:50]))


def test_ids_stay_when_something_else_changes() -> None:
    changed = SOURCE.replace("struct mount *p;", "struct mount *p;\n\n\tif (new)\n\t\treturn -EIO;")
    changed = changed.replace("attach(p,\n\t\t\t\tflags)", "attach(p, flags)")
    assert made().keys() <= made(changed).keys()
    assert made(changed).keys() - made().keys() == {
        "never:new",
        "errno:-EIO of if (new) return",
    }


def test_the_same_text_twice_has_numbers() -> None:
    twice = SOURCE.replace("mnt->mnt_ns = NULL;", "mnt->mnt_ns = NULL;\n\tmnt->mnt_ns = NULL;")
    assert {"store:mnt->mnt_ns = NULL", "store:mnt->mnt_ns = NULL#2"} <= made(twice).keys()
