# SPDX-License-Identifier: GPL-2.0-only
"""``python3 -m bench``."""

from __future__ import annotations

import sys

from bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
