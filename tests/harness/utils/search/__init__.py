# SPDX-License-Identifier: GPL-2.0-only
"""Tests of tests/utils/search."""
