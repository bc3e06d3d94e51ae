# SPDX-License-Identifier: GPL-2.0-only
"""Other processes and threads in a case, and the namespaces they enter."""
