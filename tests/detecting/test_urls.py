"""Files from the web come whole, within limits, and errors name the URL."""

import base64
import re
import socket
import threading

import pytest

from rcnnkit.detecting import urls
from rcnnkit.detecting.urls import download
from tests.detecting.conftest import Web


def test_the_bytes_that_the_server_has(web: Web) -> None:
    web.files = {"/a.bin": bytes(range(256)) * 1000, "/b.bin": b"x"}
    web.announced = {"/b.bin": -1}  # its length is not said
    assert download(f"{web.address}/a.bin") == web.files["/a.bin"]
    assert download(f"{web.address}/b.bin?size=1") == b"x"
    assert web.asked[0]["User-Agent"].startswith("rcnnkit/")
    assert "Authorization" not in web.asked[0]


def test_a_password_is_sent_and_not_shown(web: Web) -> None:
    web.files = {"/a.bin": b"x"}
    assert download(web.address.replace("://", "://me:se%40cret@") + "/a.bin") == b"x"
    assert base64.b64decode(web.asked[0]["Authorization"].removeprefix("Basic ")) == b"me:se@cret"
    with pytest.raises(OSError, match="404") as caught:
        download(web.address.replace("://", "://me:secret@") + "/b.bin")
    assert "secret" not in str(caught.value)


def test_what_is_not_there(web: Web) -> None:
    with pytest.raises(OSError, match=f"^{web.address}/none.jpg: the server answers 404 Not Found; correct the add"):
        download(f"{web.address}/none.jpg")
    with pytest.raises(OSError, match=r"^http://127\.0\.0\.1:1/a.jpg cannot be downloaded \(.*refused\); check the a"):
        download("http://127.0.0.1:1/a.jpg")
    with pytest.raises(OSError, match=r"^http://a b/ cannot be downloaded \(.*\); check the address"):
        download("http://a b/")
    web.files = {"/empty.jpg": b""}
    with pytest.raises(ValueError, match=f"^{web.address}/empty.jpg: the server answers with 0 bytes; correct"):
        download(f"{web.address}/empty.jpg")


def test_limits_of_size(web: Web) -> None:
    web.files = {"/a.bin": bytes(100_001), "/b.bin": bytes(100_001), "/c.bin": bytes(100)}
    web.announced = {"/b.bin": -1, "/c.bin": 200}
    words = "has 100,001 bytes, more than 100,000; download it yourself, and give the file"
    with pytest.raises(ValueError, match=f"^{re.escape(web.address)}/a.bin {words}$"):
        download(f"{web.address}/a.bin", 100_000)
    with pytest.raises(ValueError, match=r"/b\.bin has more than 100,000 bytes; download it yourself"):
        download(f"{web.address}/b.bin", 100_000)
    assert len(download(f"{web.address}/b.bin", 100_001)) == 100_001
    with pytest.raises(OSError, match=r"/c.bin cannot be downloaded \(the connection ended after 100 of 200 bytes\)"):
        download(f"{web.address}/c.bin")


def test_limits_of_time(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "LONGEST", -1.0)
    web.files = {"/a.bin": b"abc"}
    with pytest.raises(OSError, match=r"/a.bin cannot be downloaded \(it took more than -1 seconds\)"):
        download(f"{web.address}/a.bin")
    monkeypatch.setattr(urls, "STALLED", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and gives nothing
        taken: list[object] = []
        threading.Thread(target=lambda: taken.append(silent.accept()), daemon=True).start()
        with pytest.raises(OSError, match=r"cannot be downloaded \(no byte for 0\.1 seconds\); check the address"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/a.bin")
