# SPDX-License-Identifier: GPL-2.0-only
"""Which kernel, and getting it: image files, build trees, packages, the cache of them."""
