# SPDX-License-Identifier: GPL-2.0-only
"""What cases build and look at: trees, locks, limits, references."""
