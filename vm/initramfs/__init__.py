# SPDX-License-Identifier: GPL-2.0-only
"""What is in the guest: Python, pytest, the cases, and the archives that hold them."""
