# SPDX-License-Identifier: GPL-2.0-only
"""Packages of the machine's own distribution, fetched and unpacked without privilege."""
