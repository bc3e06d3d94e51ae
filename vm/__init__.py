# SPDX-License-Identifier: GPL-2.0-only
"""Boots a real kernel in a guest, runs the cases in it, prints a verdict: `python3 -m vm`."""
