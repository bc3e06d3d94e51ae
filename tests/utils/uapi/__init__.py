# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's interface as Python: constants, structures and calls, and nothing else."""
