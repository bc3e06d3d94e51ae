# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark on a real kernel: run in the guest together with the kernel cases."""
