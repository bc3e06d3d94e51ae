#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the cases of this folder as one program of the kernel's selftests: KTAP on standard output,
# and one of kselftest's exit statuses (tests/open_tree_ns/kselftest.py has the table).
#
# usage: run_open_tree_ns.sh [pytest options]

skip() {
	echo "TAP version 13"
	echo "1..0 # SKIP $1"
	exit 4
}

command -v python3 >/dev/null 2>&1 || skip "python3 is not installed"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || skip "python3 is older than 3.11"
python3 -c 'import pytest' 2>/dev/null || skip "python3 has no pytest"

# Where pytest finds the configuration; the checkout may be read-only.
cd "$(dirname "$0")/../.." || exit 1
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
# In this process's place, so that a time limit's signal reaches it.
exec python3 -m tests.open_tree_ns.kselftest "$@"
