# SPDX-License-Identifier: GPL-2.0-only
"""A child per case: fork, namespaces, timeout, reports. The entry is plugin.py."""
