"""Answers over HTTP: equal to the detector's own, and refusals with a reason."""

import asyncio
import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rcnnkit
from rcnnkit.detectors.detector import Detector
from rcnnkit.exporting.agreement import Limits, difference
from rcnnkit.serving.limits import ServerLimits
from rcnnkit.structures import Detections
from tests.exporting.conftest import small
from tests.serving.answers import detections
from tests.serving.conftest import huge_png, jpeg

LIMITS = ServerLimits(batch=4, delay=1, megabytes=0.2, megapixels=0.1, waiting=3, seconds=20)
SAME = Limits(0.05, 0.5, 10)
PICTURE = jpeg(150, 200)


@pytest.fixture(scope="module")
def client(detector: Detector) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    from rcnnkit.serving.application import application

    with TestClient(application(detector, LIMITS)) as client:
        yield client


def test_a_picture_gives_what_the_detector_finds(client: Any, detector: Detector) -> None:
    said = client.post("/detect", content=PICTURE).json()
    found = detector(PICTURE)
    assert (said["width"], said["height"], len(said["detections"])) == (200, 150, 10)
    assert difference(found, detections(said), SAME) == ""
    first = said["detections"][0]
    assert first.keys() == {"name", "score", "box", "label", "category_id"}
    assert (first["name"], first["category_id"]) == (found.names[0], (17, 18)[int(found.labels[0])])
    least = sorted(found.scores.tolist())[5]
    few = client.post("/detect", params={"min_score": least}, content=PICTURE).json()
    assert few["detections"] == [one for one in said["detections"] if one["score"] >= least]


def test_boxes_are_in_the_upright_picture(client: Any, detector: Detector) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(PICTURE)).save(file, "jpeg", exif=exif)
    said = client.post("/detect", content=file.getvalue()).json()
    assert (said["width"], said["height"]) == (150, 200)
    assert difference(detector(file.getvalue()), detections(said), SAME) == ""


def test_a_form_is_a_list(client: Any, detector: Detector) -> None:
    sizes = [(150, 200), (97, 61), (150, 200), (64, 64), (150, 190), (150, 200), (60, 300)]
    pictures = [jpeg(*size, seed) for seed, size in enumerate(sizes)]
    said = client.post("/detect", files=[("pictures", (f"{i}.jpg", data)) for i, data in enumerate(pictures)]).json()
    assert [(one["height"], one["width"]) for one in said["pictures"]] == sizes
    for data, one in zip(pictures, said["pictures"], strict=True):
        assert len(one["detections"]) > 0
        assert difference(detector(data), detections(one), SAME) == ""


@pytest.mark.parametrize("as_form", [False, True])
def test_draw(client: Any, detector: Detector, as_form: bool) -> None:
    given = {"files": {"picture": PICTURE}} if as_form else {"content": PICTURE}
    answer = client.post("/detect", params={"draw": 1, "min_score": 0.1}, **given)
    assert answer.headers["content-type"] == "image/jpeg"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    wanted = np.asarray(rcnnkit.draw(PICTURE, detector(PICTURE), min_score=0.1)).astype(int)
    assert drawn.shape == (150, 200, 3)
    assert np.abs(drawn - wanted).mean() < 8  # JPEG's
    assert np.abs(drawn - np.asarray(Image.open(io.BytesIO(PICTURE)))).mean() > 8


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty": ({"content": b""}, 400, "the picture of 0 bytes is empty"),
    "text": ({"content": b"hello"}, 400, "the picture of 5 bytes cannot be decoded (no known kind of picture)"),
    "cut off": ({"content": PICTURE[:3000]}, 400, "the picture of 3000 bytes cannot be decoded ("),
    "50,000 × 50,000": (
        {"content": huge_png()},
        413,
        "the picture has 2,500,000,000 pixels, more than 100,000; send it smaller, or cut it into tiles",
    ),
    "many pixels": (
        {"content": jpeg(300, 400)},
        413,
        "the picture has 400 × 300 pixels, more than 100,000; send it smaller, or cut it into tiles",
    ),
    "many bytes": (
        {"content": bytes(300_000)},
        413,
        "the request has 300,000 bytes, more than 209,715; send fewer or smaller pictures",
    ),
    "no file": (
        {"files": {"a": (None, "text")}},
        400,
        "the form has no file; add each picture as one: -F pictures=@street.jpg",
    ),
    "no boundary": (
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "the form cannot be read (Missing boundary in multipart.)",
    ),
    "one of a form": (
        {"files": [("pictures", ("a.jpg", PICTURE)), ("pictures", ("b.jpg", b"none"))]},
        400,
        "b.jpg: the picture of 4 bytes cannot be decoded (no known kind of picture)",
    ),
    "draw two": (
        {"files": [("a", ("a.jpg", PICTURE)), ("b", ("b.jpg", PICTURE))], "params": {"draw": 1}},
        400,
        "draw=1 is for one picture, and the form has 2; send one",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_has_a_reason(client: Any, name: str) -> None:
    given, status, reason = BAD[name]
    answer = client.post("/detect", **given)
    assert (answer.status_code, answer.json()["detail"][: len(reason)]) == (status, reason)


def test_parameters_that_are_none(client: Any) -> None:
    for wrong in ({"min_score": "much"}, {"min_score": "nan"}, {"draw": "maybe"}):
        assert client.post("/detect", params=wrong, content=PICTURE).status_code == 422
    assert client.get("/detect").status_code == 405


def test_it_says_that_it_is_well(client: Any) -> None:
    assert client.get("/health").json() == {
        "status": "ok",
        "rcnnkit": rcnnkit.__version__,
        "kind": "faster_rcnn",
        "class_names": ["cat", "dog"],
    }


def test_what_it_counts(client: Any) -> None:
    def numbers() -> dict[str, float]:
        lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    before = numbers()
    client.post("/detect", content=PICTURE)
    client.post("/detect", content=b"")
    after = numbers()
    for name, more in {
        'rcnnkit_requests_total{status="200"}': 1,
        'rcnnkit_requests_total{status="400"}': 1,
        "rcnnkit_request_seconds_count": 2,
        "rcnnkit_detections_total": 10,
        "rcnnkit_batch_pictures_sum": 1,
        "rcnnkit_detector_seconds_count": 1,
    }.items():
        assert after[name] - before.get(name, 0) == more, name
    assert after["rcnnkit_requests_waiting"] == 0


def test_the_description(client: Any) -> None:
    said = client.get("/openapi.json").json()
    assert said["paths"].keys() == {"/detect", "/steps", "/health", "/metrics"}
    post = said["paths"]["/detect"]["post"]
    assert post["requestBody"]["content"].keys() == {"image/*", "multipart/form-data"}
    assert {"200", "400", "408", "413", "422", "503"} <= post["responses"].keys()
    assert {each["name"] for each in post["parameters"]} == {"draw", "min_score"}


def test_the_page_needs_nothing_from_elsewhere(client: Any) -> None:
    html = client.get("/").text
    assert "<h1>Faster R-CNN</h1>" in html
    assert "It finds: cat, dog." in html
    assert "http://" not in html
    assert "https://" not in html


def test_too_many_wait_or_too_long(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    from rcnnkit.serving.application import _Service, application

    def slowly(_: object, pictures: list[Any]) -> list[Detections]:
        time.sleep(1.5)
        return detector(pictures)

    monkeypatch.setattr(_Service, "detect", slowly)
    app = application(detector, ServerLimits(batch=1, delay=0, waiting=2, seconds=2.5))

    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
            app.router.lifespan_context(app),
        ):
            return await asyncio.gather(*(client.post("/detect", content=PICTURE) for _ in range(3)))

    *accepted, third = asyncio.run(main())
    first, second = sorted(accepted, key=lambda answer: answer.status_code)  # either is decoded first
    assert first.status_code == 200
    assert (second.status_code, second.json()["detail"]) == (
        503,
        "no answer within 2.5 seconds; try again later, or send fewer pictures",
    )
    assert (third.status_code, third.json()["detail"]) == (503, "2 requests wait already; try again later")
    assert second.headers["retry-after"] == third.headers["retry-after"] == "1"


def test_a_request_that_does_not_arrive(detector: Detector) -> None:
    import httpx

    from rcnnkit.serving.application import application

    async def slow_body() -> Any:
        yield PICTURE[:100]
        await asyncio.sleep(5)

    app = application(detector, ServerLimits(seconds=0.1))

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/detect", content=slow_body())

    answer = asyncio.run(main())
    assert (answer.status_code, answer.json()["detail"]) == (
        408,
        "the request did not arrive within 0.1 seconds; send smaller pictures",
    )


@pytest.mark.parametrize("body_arrives", [True, False])
def test_a_client_that_goes_away(detector: Detector, monkeypatch: pytest.MonkeyPatch, body_arrives: bool) -> None:
    """Its picture is left out, and nothing is logged."""
    from rcnnkit.serving.application import _Service, application

    calls = []

    def slowly(_: object, pictures: list[Any]) -> list[Detections]:
        calls.append(len(pictures))
        time.sleep(0.2)
        return detector(pictures)

    monkeypatch.setattr(_Service, "detect", slowly)
    app = application(detector, ServerLimits(batch=1, delay=0))
    scope = {"type": "http", "method": "POST", "path": "/detect", "headers": [], "query_string": b""}

    async def post(leaves: bool) -> int:
        events = [{"type": "http.request", "body": PICTURE, "more_body": not body_arrives and leaves}]
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            if events:
                return events.pop()
            await asyncio.sleep(0.1 if leaves else 60)
            return {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            statuses.extend([event["status"]] if "status" in event else [])

        await app(scope | {"app": app}, receive, send)  # type: ignore[arg-type]  # as a server calls it
        return statuses[0]

    async def main() -> list[int]:
        async with app.router.lifespan_context(app):
            first = asyncio.create_task(post(False))
            await asyncio.sleep(0.05)
            return list(await asyncio.gather(first, post(True), post(False)))

    assert asyncio.run(main()) == [200, 499, 200]
    assert calls == [1, 1]


def test_a_search_that_fails(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    from rcnnkit.serving.application import _Service, application

    def fail(_: object, pictures: list[Any]) -> list[Detections]:
        raise MemoryError

    monkeypatch.setattr(_Service, "detect", fail)
    with TestClient(application(detector, LIMITS)) as client:
        answer = client.post("/detect", content=PICTURE)
    assert (answer.status_code, answer.json()["detail"]) == (
        500,
        "the search failed (out of memory); a smaller picture takes less memory",
    )


def test_a_detector_that_hangs_is_not_well(detector: Detector) -> None:
    from fastapi import HTTPException

    from rcnnkit.serving.application import _Service
    from rcnnkit.serving.batching import Batcher

    service = _Service(detector, ServerLimits(seconds=10))
    service.batcher = Batcher(service.detect, service.canvas, 1, 0, lambda *_: None)
    service.check()
    service.batcher.busy_since = time.monotonic() - 12
    with pytest.raises(HTTPException, match="503: the detector has been busy with one batch for 12 seconds"):
        service.check()


def test_detectors_that_cannot_be_served(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    from rcnnkit.serving.application import application

    with pytest.raises(ValueError, match=r"this Fast R-CNN was trained on precomputed proposals, which do not come"):
        application(small("fast_rcnn"), LIMITS)
    monkeypatch.setenv("RCNNKIT_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match=r"RCNNKIT_MAX_PIXELS is 'many', expected a whole number above 0"):
        application(detector, LIMITS)
