# SPDX-License-Identifier: GPL-2.0-only
"""What --stress runs: programs and histories, guessed and shrunk."""
