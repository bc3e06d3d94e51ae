# SPDX-License-Identifier: GPL-2.0-only
"""What the cases stand on: one small module per duty."""
