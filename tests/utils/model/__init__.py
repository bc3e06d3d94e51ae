# SPDX-License-Identifier: GPL-2.0-only
"""What must come out of a copy or of a history of mounts: predicted without a kernel."""
