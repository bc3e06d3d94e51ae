# SPDX-License-Identifier: GPL-2.0-only
"""What runs in the guest, and the protocol that it shares with the host.

Nothing of the host's side is imported here.
"""
