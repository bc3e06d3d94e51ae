# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm`."""

import sys

from vm.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
