# SPDX-License-Identifier: GPL-2.0-only
"""The plugins of the suite: isolation of the kernel cases, what a case may ask for, reports."""

from __future__ import annotations

# pytester is for tests/harness alone, but only this file may name plugins.
pytest_plugins = [
    "pytester",
    "tests.utils.isolation.plugin",
    "tests.utils.watch.kernel_plugin",
    "tests.utils.watch.leak_plugin",
    "tests.utils.report.nothing_ran",
    "tests.utils.probes.plugin",
    "tests.utils.report.markers",
    "tests.utils.search.plugin",
    "tests.utils.report.terminal_plugin",
    "tests.utils.report.selection_plugin",
    "tests.utils.report.digest_plugin",
    "tests.utils.report.junit_plugin",
    "tests.utils.report.ktap_plugin",
    "tests.utils.report.waiver_plugin",
]
