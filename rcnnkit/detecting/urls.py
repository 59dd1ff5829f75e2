"""Files from the web, within limits of size and time."""

from __future__ import annotations

import base64
import io
import time
from http.client import HTTPException
from typing import IO
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from rcnnkit import __version__

LARGEST_PICTURE = 256 * 2**20  # bytes
LARGEST_VIDEO = 4 * 2**30
STALLED = 30.0  # seconds without a byte after which a download fails
LONGEST = 1800.0  # seconds that a download may take
CHUNK = 2**16  # bytes that are read at a time


def download(url: str, largest: int = LARGEST_PICTURE) -> bytes:
    """What the server answers. Raises as `download_to`."""
    kept = io.BytesIO()
    download_to(kept, url, largest)
    return kept.getvalue()


def download_to(file: IO[bytes], url: str, largest: int) -> None:
    """Write what the server answers into an open file.

    Args:
        url: http:// or https://, where needed with user:password@ before the host.
        largest: bytes.

    Raises:
        OSError: there is no such server or file, no byte came for `STALLED` seconds, or all took `LONGEST` seconds.
        ValueError: it has more bytes than `largest`, or none.
    """
    size, began = 0, time.monotonic()
    headers = {"User-Agent": f"rcnnkit/{__version__}"}
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    if at:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(user).encode()).decode()}"
        url = url.replace(f"{user}@", "", 1)  # also for errors
    try:
        with urlopen(Request(url, headers=headers), timeout=STALLED) as answer:
            announced = answer.headers.get("Content-Length", "")
            if announced.isdecimal() and int(announced) > largest:
                raise _TooLarge(f"{url} has {int(announced):,} bytes, more than {largest:,}; {ITSELF}")
            while chunk := answer.read1(CHUNK):
                size += len(chunk)
                if size > largest:
                    raise _TooLarge(f"{url} has more than {largest:,} bytes; {ITSELF}")
                if time.monotonic() - began > LONGEST:
                    raise TimeoutError(f"it took more than {LONGEST:g} seconds")
                file.write(chunk)
            if announced.isdecimal() and size < int(announced):
                raise TimeoutError(f"the connection ended after {size:,} of {int(announced):,} bytes")
    except _TooLarge as error:
        raise ValueError(str(error)) from None
    except HTTPError as error:
        raise OSError(f"{url}: the server answers {error.code} {error.reason}; correct the address") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        said = f"no byte for {STALLED:g} seconds" if str(reason) == "timed out" else str(reason) or type(error).__name__
        raise OSError(f"{url} cannot be downloaded ({said}); check the address and the network") from None
    if not size:
        raise ValueError(f"{url}: the server answers with 0 bytes; correct the address")


class _TooLarge(Exception):
    """The text is for the user."""


ITSELF = "download it yourself, and give the file"
