# SPDX-License-Identifier: GPL-2.0-only
"""The plugins of the suite."""

from __future__ import annotations

pytest_plugins = ["tests.utils.isolation"]
