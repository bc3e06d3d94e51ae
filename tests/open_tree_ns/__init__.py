# SPDX-License-Identifier: GPL-2.0-only
"""The kernel cases: one module per family of OPEN_TREE_NAMESPACE rules."""
