"""What the server says, as /openapi.json describes it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from rcnnkit.structures import Array, Detections


class Found(BaseModel):
    """One object."""

    name: str
    score: float
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in the pixels of the upright picture.")
    label: int = Field(description="The number of the class, from 0.")
    category_id: int | None = Field(description="The data set's own number of the class.")


class Answer(BaseModel):
    """What was found in a picture, best score first."""

    width: int = Field(description="Of the upright picture.")
    height: int
    detections: list[Found]


class Answers(BaseModel):
    """Of the pictures of a form, in their order."""

    pictures: list[Answer]


class Health(BaseModel):
    """That the server answers, and what it answers with."""

    status: str
    rcnnkit: str
    kind: str
    class_names: list[str]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def answer(picture: Array, detections: Detections) -> Answer:
    """Detections on the CPU, of a picture (H, W, 3)."""
    ids = detections.category_ids
    return Answer(
        width=picture.shape[1],
        height=picture.shape[0],
        detections=[
            Found(name=name, score=score, box=box, label=label, category_id=ids[label] if ids else None)
            for (name, score, box), label in zip(detections, detections.labels.tolist(), strict=True)
        ],
    )
