# SPDX-License-Identifier: GPL-2.0-only
"""The command line: what each verb does, its options and its help."""
