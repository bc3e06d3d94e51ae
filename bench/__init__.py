# SPDX-License-Identifier: GPL-2.0-only
"""What OPEN_TREE_NAMESPACE buys, measured against what it replaces: ``python3 -m bench``."""
