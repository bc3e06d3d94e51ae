# SPDX-License-Identifier: GPL-2.0-only
"""Tests of what the kernel cases share, and of the cases as source."""
