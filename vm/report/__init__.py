# SPDX-License-Identifier: GPL-2.0-only
"""From what came back of the guests to words, files and an exit status."""
