"""From a request to pictures, within limits. What is refused has a status of HTTP and a reason."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

from fastapi import HTTPException, Request
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from rcnnkit.decoding import TooManyPixels, max_pixels, open_picture
from rcnnkit.images import read_picture
from rcnnkit.structures import Array

LEFT = 499  # nginx's number of a client that went away; it is counted, and nobody sees it


def went_away() -> HTTPException:
    return HTTPException(LEFT, "the client went away")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The bytes of a request.

    All of them are read, but none is kept beyond `max_bytes`: many clients look at an answer only after they have sent
    all.

    Raises:
        HTTPException: 413, more than `max_bytes`; `LEFT`, the client went away.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= max_bytes:
                chunks.append(chunk)
            else:
                chunks.clear()
    except ClientDisconnect:
        raise went_away() from None
    if size > max_bytes:
        raise HTTPException(
            413, f"the request has {size:,} bytes, more than {max_bytes:,}; send fewer or smaller pictures"
        )
    return b"".join(chunks)


async def files_in(request: Request, body: bytes) -> list[tuple[str, bytes]] | None:
    """Names and bytes of the files of a form (multipart/form-data); None where the body is one picture itself.

    Raises:
        HTTPException: 400, a form that cannot be read, or without files.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return None

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(request.headers, chunks()).parse()  # type: ignore[arg-type]  # is a generator
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read ({error.message})") from None
    try:
        files = [
            (file.filename or f"file {i + 1}", await file.read())
            for i, (_, file) in enumerate(form.multi_items())
            if not isinstance(file, str)
        ]
    finally:
        await form.close()
    if not files:
        raise HTTPException(400, "the form has no file; add each picture as one: -F pictures=@street.jpg")
    return files


def decode(data: bytes, max_pixels_allowed: int, name: str = "") -> Array:
    """A picture from the bytes of its file.

    Args:
        max_pixels_allowed: a picture with more is not decoded.
        name: of one of several, for errors.

    Raises:
        HTTPException: 413, too many pixels; 400, no picture, or a damaged one.
    """
    prefix = f"{name}: " if name else ""
    try:
        with open_picture(io.BytesIO(data)) as picture:
            width, height = picture.size
        if width * height > max_pixels_allowed:
            raise TooManyPixels(f"{width} × {height}", max_pixels_allowed)
    except TooManyPixels as error:
        size = str(error).partition(", more than")[0]
        limit = min(max_pixels_allowed, max_pixels())
        raise HTTPException(
            413, f"{prefix}the picture {size}, more than {limit:,}; send it smaller, or cut it into tiles"
        ) from None
    except Exception:  # the words of `read_picture` are for people
        pass
    try:
        return read_picture(data)
    except ValueError as error:
        raise HTTPException(400, prefix + str(error).partition("; copy the picture")[0]) from None
