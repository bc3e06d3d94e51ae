# SPDX-License-Identifier: GPL-2.0-only
"""The test suite: kernel cases, what they stand on, and the tests of that."""
