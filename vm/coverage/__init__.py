# SPDX-License-Identifier: GPL-2.0-only
"""Which lines of a kernel the cases ran: from gcov's counters to tables and pages."""
