# SPDX-License-Identifier: GPL-2.0-only
"""Tests of the launcher with real kernels in real guests."""
