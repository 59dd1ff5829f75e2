"""The application that a worker runs: POST /detect, POST /steps, a page, /health, /metrics and /openapi.json."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse

import rcnnkit
from rcnnkit.decoding import max_pixels
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import title_of
from rcnnkit.drawing import draw as draw_boxes
from rcnnkit.serving.answers import Answer, Answers, Health, Problem, answer
from rcnnkit.serving.batching import Batcher
from rcnnkit.serving.limits import ServerLimits
from rcnnkit.serving.metrics import Metrics
from rcnnkit.serving.page import page
from rcnnkit.serving.reading import decode, files_in, read_body, went_away
from rcnnkit.serving.steps import Steps, trace
from rcnnkit.structures import Array, Detections, Size
from rcnnkit.text import count

Result = TypeVar("Result")
DECODERS = 2  # threads that decode and draw while the detector works
LONGEST_JPEG = 65500  # pixels of a side
BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"pictures": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
    },
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "No picture, a damaged one, or a form that cannot be read."},
    408: {"model": Problem, "description": "The request did not arrive in time."},
    413: {"model": Problem, "description": "Too many bytes or pixels."},
    503: {"model": Problem, "description": "Too many requests wait, or the answer took too long. Try again later."},
}
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}, **REFUSALS}


def application(detector: Detector, limits: ServerLimits, root_path: str = "") -> FastAPI:
    """What uvicorn, or another server of ASGI, runs.

    Args:
        detector: as `rcnnkit.load` gives it.
        limits: of this worker.
        root_path: where a proxy has it, such as "/cells".

    Raises:
        ValueError: the detector needs proposals with each picture; or the environment variable RCNNKIT_MAX_PIXELS is
            not a number.
    """
    detector([])  # raises where every picture would
    if detector.takes_proposals and detector.proposer is None:
        raise ValueError(
            f"this {title_of(detector.kind)} was trained on precomputed proposals, which do not come with the pictures"
            ' of requests; train one with another proposals.method, such as "selective_search"'
        )
    max_pixels()
    service = _Service(detector, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title=f"rcnnkit: {title_of(detector.kind)}",
        description="Finds objects in pictures.",
        version=rcnnkit.__version__,
        root_path=root_path,
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )

    @app.post(
        "/detect",
        response_model=Answer | Answers,
        responses=ANSWERS,
        openapi_extra={"requestBody": BODY},
    )
    async def detect(
        request: Request,
        draw: Annotated[bool, Query(description="Answer with the picture and its boxes, as JPEG.")] = False,
        min_score: Annotated[
            float | None,
            Query(allow_inf_nan=False, description="Leave weaker detections out. By default all, or drawn good ones."),
        ] = None,
    ) -> Any:
        """Find objects in the picture that is the body, or in each file of a form."""
        return await service.counted(service.answer(request, "draw=1" if draw else "", min_score))

    @app.post("/steps", response_model=Steps, responses=REFUSALS, openapi_extra={"requestBody": BODY})
    async def steps(request: Request) -> Any:
        """Find objects in one picture, and say what each step of the detector did."""
        return await service.counted(service.answer(request, "/steps", None))

    @app.get("/health", responses={503: {"model": Problem}})
    async def health() -> Health:
        """Whether the detector answers."""
        service.check()
        names = list(detector.class_names)
        return Health(status="ok", rcnnkit=rcnnkit.__version__, kind=detector.kind, class_names=names)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """What all workers count, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    scores = (-1.0, 3.0) if detector.scores_are_margins else (0.0, 1.0)
    html = page(title_of(detector.kind), detector.class_names, (*scores, detector.min_score))

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def root() -> str:
        return html

    @app.get("/favicon.ico", include_in_schema=False, status_code=204)
    async def icon() -> None:
        """Browsers ask for it; there is none."""

    return app


class _Service:
    """A detector, its queue, and what is counted."""

    def __init__(self, detector: Detector, limits: ServerLimits) -> None:
        self.detector, self.limits, self.metrics = detector, limits, Metrics()
        self.waiting = 0
        self.room = asyncio.Semaphore(2 * limits.batch)  # decoded pictures, so that memory has a bound
        self.decoders = ThreadPoolExecutor(DECODERS, "decoder")
        self.batcher: Batcher

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.batcher = Batcher(
            self.detect, self.canvas, self.limits.batch, self.limits.delay / 1000, self.metrics.called
        )
        task = asyncio.create_task(self.batcher.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.decoders.shutdown(wait=False)

    def detect(self, pictures: Any) -> list[Detections]:
        return [found.to("cpu") for found in self.detector(list(pictures))]

    def canvas(self, picture: Array) -> Size:
        """The network's pixels of a picture. Only pictures of one canvas go together, as padding changes answers."""
        rule = self.detector.preprocessing
        return rule.canvas([rule.resized((picture.shape[0], picture.shape[1]))])

    def check(self) -> None:
        """Raise HTTPException 503 where the detector has hung."""
        since = self.batcher.busy_since
        if since is not None and (seconds := time.monotonic() - since) > self.limits.seconds:
            raise HTTPException(503, f"the detector has been busy with one batch for {seconds:.0f} seconds")

    async def counted(self, work: Awaitable[Result]) -> Result:
        """What `work` answers; its status and seconds are counted."""
        start, status = time.monotonic(), 500
        try:
            said = await work
            status = 200
            return said
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self.metrics.requests.labels(str(status)).inc()
            self.metrics.seconds.observe(time.monotonic() - start)

    async def answer(
        self, request: Request, single: str, min_score: float | None
    ) -> Response | Answer | Answers | Steps:
        """Raises HTTPException with a status and a reason.

        Args:
            single: what is asked of one picture alone, "draw=1" or "/steps"; "" for detections in any number.
        """
        if self.waiting >= self.limits.waiting:
            await _throw_away(request, self.limits.seconds)
            raise HTTPException(
                503,
                f"{count(self.waiting, 'request')} wait already; try again later",
                headers={"Retry-After": "1"},
            )
        self.waiting += 1
        self.metrics.waiting.inc()
        end = asyncio.get_running_loop().time() + self.limits.seconds
        try:
            try:
                async with asyncio.timeout_at(end):
                    body = await read_body(request, self.limits.bytes)
                    files = await files_in(request, body)
            except TimeoutError:
                raise HTTPException(
                    408, f"the request did not arrive within {self.limits.seconds:g} seconds; send smaller pictures"
                ) from None
            if single and files and len(files) > 1:
                raise HTTPException(400, f"{single} is for one picture, and the form has {len(files)}; send one")
            try:
                async with asyncio.timeout_at(end):
                    return await _unless_gone(request, self._answers(body, files, single, min_score))
            except TimeoutError:
                raise HTTPException(
                    503,
                    f"no answer within {self.limits.seconds:g} seconds; try again later, or send fewer pictures",
                    headers={"Retry-After": "1"},
                ) from None
        finally:
            self.waiting -= 1
            self.metrics.waiting.dec()

    async def _answers(
        self, body: bytes, files: list[tuple[str, bytes]] | None, single: str, min_score: float | None
    ) -> Response | Answer | Answers | Steps:
        if single == "/steps":
            return await self._traced(body if files is None else files[0][1])
        if single:
            return await self._look(body if files is None else files[0][1], "", self._drawn, min_score)
        if files is None:
            return await self._look(body, "", _answer, min_score)
        tasks = [asyncio.create_task(self._look(data, name, _answer, min_score)) for name, data in files]
        try:
            return Answers(pictures=await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _look(
        self,
        data: bytes,
        name: str,
        tell: Callable[[Array, Detections, float | None], Result],
        min_score: float | None,
    ) -> Result:
        """What `tell` makes of a picture and of what was found in it."""
        loop = asyncio.get_running_loop()
        async with self.room:
            picture = await loop.run_in_executor(self.decoders, decode, data, self.limits.pixels, name)
            with _failing():
                detections = await self.batcher(picture)
            self.metrics.detections.inc(len(detections))
            return await loop.run_in_executor(self.decoders, tell, picture, detections, min_score)

    async def _traced(self, data: bytes) -> Steps:
        loop = asyncio.get_running_loop()
        async with self.room:
            picture = await loop.run_in_executor(self.decoders, decode, data, self.limits.pixels)
            with _failing():
                return await self.batcher.alone(partial(trace, self.detector, picture))

    def _drawn(self, picture: Array, detections: Detections, min_score: float | None) -> Response:
        least = self.detector.min_score if min_score is None else min_score
        drawn, file = draw_boxes(picture, detections, min_score=least), io.BytesIO()
        kind = "jpeg" if max(drawn.size) <= LONGEST_JPEG else "png"
        drawn.save(file, kind, quality=92)
        return Response(file.getvalue(), media_type=f"image/{kind}")


def _answer(picture: Array, detections: Detections, min_score: float | None) -> Answer:
    return answer(picture, detections if min_score is None else detections.above(min_score))


@contextmanager
def _failing() -> Iterator[None]:
    """What a search inside raises becomes HTTPException 500."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] or "out of memory"
        raise HTTPException(500, f"the search failed ({reason}); a smaller picture takes less memory") from None


async def _throw_away(request: Request, seconds: float) -> None:
    """Read a request without keeping it."""
    with suppress(TimeoutError, HTTPException):
        async with asyncio.timeout(seconds):
            await read_body(request, 0)


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """What `work` gives, which is given up when the client goes away. The request must be read to its end."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.create_task(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise went_away()
        return tasks[0].result()  # type: ignore[return-value]  # the first task's
    finally:
        for task in tasks:
            task.cancel()
