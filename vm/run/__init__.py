# SPDX-License-Identifier: GPL-2.0-only
"""Runs guests and takes in what they send: drives, limits, logs, the scheduler."""
