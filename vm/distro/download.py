# SPDX-License-Identifier: GPL-2.0-only
"""Fetches a file by its http(s) address, through the proxies that the environment names."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vm.errors import Problem
from vm.terminal import say

#: Seconds without an answer.
_TIMEOUT = 30.0
_CHUNK = 1 << 20
_HINT = "check the address, the network and the variables http_proxy and https_proxy"


def name_in(address: str) -> str:
    """Return the name of the file that *address* is of."""
    return unquote(urlsplit(address).path).rpartition("/")[2] or "file"


def fetch(address: str, target: Path) -> None:
    """Write what *address* has to *target*, saying so before.

    :raises Problem: it cannot be had as a whole.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "open-tree-namespace-tests"})
    try:
        # Not urlopen(), which keeps the proxies of its first call.
        with urllib.request.build_opener().open(request, timeout=_TIMEOUT) as answer:
            size = answer.headers.get("Content-Length")
            known = f" ({int(size) / 1e6:.1f} MB)" if size else ""
            say(f"downloading {address}{known} into the cache ...")
            got = 0
            with target.open("wb") as file:
                while data := answer.read(_CHUNK):
                    got += file.write(data)
    except urllib.error.HTTPError as error:
        raise Problem(f"{address}: {error.code} {error.reason}\nhint: {_HINT}") from None
    except urllib.error.URLError as error:
        raise Problem(f"{address}: {error.reason}\nhint: {_HINT}") from None
    except (TimeoutError, ConnectionError, http.client.HTTPException, ValueError) as error:
        raise Problem(f"{address}: {error or type(error).__name__}\nhint: {_HINT}") from None
    if size and got != int(size):
        raise Problem(f"{address}: only {got} bytes of {size} came\nhint: try again")
