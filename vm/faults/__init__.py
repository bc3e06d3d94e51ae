# SPDX-License-Identifier: GPL-2.0-only
"""Faults planted in a kernel, and what notices them: the catalogue is in faults/."""
