# SPDX-License-Identifier: GPL-2.0-only
"""How results are told: cases, KTAP, JUnit, waivers, hints, and the plugins for them."""
