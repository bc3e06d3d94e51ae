# SPDX-License-Identifier: GPL-2.0-only
"""What is wrong with the machine after a case: the kernel's log, mounts and namespaces."""
