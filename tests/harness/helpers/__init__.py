# SPDX-License-Identifier: GPL-2.0-only
"""What several tests here share; no test among it."""
