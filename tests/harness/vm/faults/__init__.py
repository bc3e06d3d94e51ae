# SPDX-License-Identifier: GPL-2.0-only
"""Tests of vm/faults: the catalogue, what becomes of the source, and what is made of results."""
