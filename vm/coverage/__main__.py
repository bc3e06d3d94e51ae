# SPDX-License-Identifier: GPL-2.0-only
"""python3 -m vm.coverage RUN/coverage.json docs/coverage.md: make the page of a run anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vm.coverage.page import render

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    page = Path(sys.argv[2])
    text = render(json.loads(Path(sys.argv[1]).read_text()), page.read_text())
    page.write_text(text)
