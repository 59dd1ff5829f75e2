"""What is said of a run."""

from pathlib import Path

from rcnnkit.detecting.files import detect_and_write
from rcnnkit.detecting.outputs import Outputs, Writer
from rcnnkit.detecting.tally import Tally
from tests.detecting.squares import Squares


def said(squares: Squares, files: object, outputs: Outputs, frames: int | None = None) -> list[str]:
    writer = Writer(outputs, squares)
    tally = Tally(writer.least)
    lines = [
        line
        for found in detect_and_write(squares, files, writer, 4, frames)  # type: ignore[arg-type]  # squares find
        for line in tally.add(found)
    ]
    return [*lines, *tally.end(), *tally.written(writer)]


def test_a_line_for_each_picture_and_video(squares: Squares, pictures: Path, clip: Path, tmp_path: Path) -> None:
    out, crops = tmp_path / "out", tmp_path / "crops"
    files = [pictures / "mon", clip, pictures / "tue", pictures / "none.png", clip.with_name("none.mp4")]
    assert said(squares, files, Outputs(out, crops=crops, min_score=0.0), 3) == [
        f"{pictures}/mon/a.png: 1 red, 1 green",
        f"{clip}: 3 frames, 3 red, 3 green; drawn in {out}/clip.mp4",
        f"{pictures}/tue/none.png: nothing that scores 0",
        f"wrote 2 pictures, 1 video and 8 detections in {out}/detections.json",
        f"wrote 4 red, 4 green in {crops}",
    ]
    assert said(squares, [clip], Outputs(results=tmp_path / "r.csv", min_score=1.0), 1) == [
        f"{clip}: 1 frame, 1 red",
        f"wrote 2 detections in {tmp_path}/r.csv",
    ]
    yolo = Outputs(results=tmp_path / "yolo", format="yolo")
    assert said(squares, pictures, yolo)[-1] == f"wrote 2 detections in {tmp_path}/yolo"
    assert (
        said(squares, pictures / "tue", Outputs(crops=tmp_path / "none"))[-1] == f"wrote no object in {tmp_path}/none"
    )


def test_nothing_is_said_to_be_written_where_nothing_was(squares: Squares, tmp_path: Path) -> None:
    assert said(squares, tmp_path / "none.png", Outputs(tmp_path / "out")) == []
    assert not (tmp_path / "out").exists()
