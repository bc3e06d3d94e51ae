# SPDX-License-Identifier: GPL-2.0-only
"""What this kernel, this machine and this caller can do; the marker ``needs``."""
