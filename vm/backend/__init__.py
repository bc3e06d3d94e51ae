# SPDX-License-Identifier: GPL-2.0-only
"""What boots a kernel: QEMU, User-Mode Linux, virtme-ng; and which of them for which kernel."""
