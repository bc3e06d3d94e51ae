# SPDX-License-Identifier: GPL-2.0-only
"""A table in which others mount and unmount, and one in which nobody does."""

from __future__ import annotations

import errno
import os

import pytest

from tests.harness.helpers.mount_tables import TABLE
from tests.utils.uapi import statmount as calls
from tests.utils.uapi.statmount import Mount, mount_table


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM])
def test_a_mount_that_has_gone_meanwhile(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Left out on request, for which ENOENT alone will do."""

    def statmount(mnt_id: int, **_: int) -> Mount:
        if mnt_id == TABLE[1].mnt_id:
            raise OSError(number, os.strerror(number))
        return next(mount for mount in TABLE if mount.mnt_id == mnt_id)

    monkeypatch.setattr(calls, "listmount", lambda **_: [mount.mnt_id for mount in TABLE])
    monkeypatch.setattr(calls, "statmount", statmount)
    with pytest.raises(OSError, match=os.strerror(number)):
        mount_table()
    if number == errno.ENOENT:
        assert mount_table(tolerant=True) == [TABLE[0], *TABLE[2:]]
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            mount_table(tolerant=True)
