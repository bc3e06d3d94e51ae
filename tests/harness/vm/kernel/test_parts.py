# SPDX-License-Identifier: GPL-2.0-only
"""The files of a kernel by their addresses: fetched into the cache, their checksums compared."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.harness.helpers.images import bzimage
from tests.harness.helpers.packages import COMPRESS, IMAGE, MODULES, deb
from vm import paths
from vm.arch import X86_64
from vm.commands import main
from vm.errors import Exit, Problem
from vm.kernel import source
from vm.kernel.image import Kernel

IMAGE_DEB, MODULES_DEB = deb(IMAGE), deb(MODULES)


class Site:
    """A web server on this machine: what it has, and what it was asked for."""

    def __init__(self) -> None:
        self.files = {
            "/pool/x_1%2b1.deb": IMAGE_DEB,
            "/m.deb": MODULES_DEB,
            "/bzImage.gz": COMPRESS["gz"](bzimage()),
            "/page.deb": b"<html>",
            "/cut.deb": IMAGE_DEB,
        }
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                data = site.files.get(self.path.removeprefix("http://mirror.invalid"))
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header(
                    "Content-Length", str(len(data) + 9 * self.path.startswith("/cut"))
                )
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def place(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web server, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site = Site()
    with site.server:
        Thread(target=site.server.serve_forever, args=(0.01,), daemon=True).start()
        yield site
        site.server.shutdown()


def find(text: str) -> Kernel:
    return source.find(text, X86_64, None).make()


def checksum(data: bytes) -> str:
    return f"#sha256={hashlib.sha256(data).hexdigest()}"


def test_what_is_vouched_for_is_fetched_once(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        f"{site.place}/pool/x_1%2b1.deb{checksum(IMAGE_DEB)}"
        f"+{site.place}/m.deb{checksum(MODULES_DEB).upper().replace('#SHA256', '#sha256')}"
    )
    kernel = find(text)
    assert kernel.modules is not None
    assert site.asked == ["/pool/x_1%2b1.deb", "/m.deb"]
    errors = capsys.readouterr().err
    assert f"downloading {site.place}/m.deb (0.0 MB) into the cache" in errors
    assert "vouches" not in errors
    assert find(text) == kernel
    assert len(site.asked) == 2
    almost = checksum(IMAGE_DEB)[:-1] + ("1" if checksum(IMAGE_DEB)[-1] == "0" else "0")
    find(f"{site.place}/pool/x_1%2b1.deb{checksum(IMAGE_DEB)}")
    with pytest.raises(Problem, match="its SHA-256 is"):
        find(f"{site.place}/pool/x_1%2b1.deb{almost}")


def test_what_is_not_is_fetched_each_time_and_said(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{site.place}/m.deb"
    site.files["/m.deb"] = IMAGE_DEB
    assert find(address).modules is None
    errors = capsys.readouterr().err
    assert f"vm: nothing vouches for {address}: it is taken as it came\nhint: " in errors
    assert checksum(IMAGE_DEB) in errors
    assert len(site.asked) == 1
    site.files["/m.deb"] = deb({**IMAGE, **MODULES})
    assert find(address).modules is not None


def test_a_plain_or_a_compressed_image_has_an_address_as_well(site: Site) -> None:
    assert find(f"{site.place}/bzImage.gz").release == "7.9.1-test"


def test_an_image_and_its_modules_may_have_an_address_each(site: Site) -> None:
    kernel = find(f"{site.place}/bzImage.gz+{site.place}/m.deb")
    assert kernel.release == "7.9.1-test"
    assert kernel.modules is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.deb", r"/none\.deb: 404 Not Found\nhint: "),
        ("cut.deb", r"/cut\.deb: only \d+ bytes of \d+ came\nhint: "),
        ("page.deb", r"/page\.deb: a damaged package: .*\nhint: "),
        (f"m.deb{checksum(IMAGE_DEB)}", r"/m\.deb: its SHA-256 is .*, and .* was asked for\nhint"),
    ],
)
def test_what_does_not_come_as_it_should_is_not_kept(site: Site, name: str, words: str) -> None:
    with pytest.raises(Problem, match=words):
        find(f"{site.place}/{name}")
    assert list((paths.cache() / "kernels/file").iterdir()) == []


def test_a_checksum_that_is_none_is_a_usage_error(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (f"{site.place}/m.deb#sha256=12", "m.deb#sha256="):
        assert main.main(["run", "--kernel", text, "--dry-run"]) == Exit.USAGE
        first, second = capsys.readouterr().err.splitlines()
        assert first == f"vm: {text}: not a SHA-256"
        assert second.startswith("hint: #sha256= and 64 ")
    assert not site.asked


def test_a_file_here_may_have_a_checksum_too(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(IMAGE_DEB)
    assert find(f"{path}{checksum(IMAGE_DEB)}").release
    with pytest.raises(Problem, match="its SHA-256 is"):
        find(f"{path}{checksum(MODULES_DEB)}")


def test_a_site_that_does_not_answer_is_named(site: Site) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{free.getsockname()[1]}/x.deb"
        with pytest.raises(Problem, match=rf"{place}: .*refused\nhint: .*http_proxy"):
            find(place)


def test_a_proxy_of_the_environment_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.place)
    monkeypatch.setenv("no_proxy", "")
    assert find(f"http://mirror.invalid/bzImage.gz{checksum(site.files['/bzImage.gz'])}").release
    assert site.asked == ["http://mirror.invalid/bzImage.gz"]
