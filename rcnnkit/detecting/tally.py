"""What was found, in words: a line for each picture and each video, and one at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rcnnkit.detecting.outputs import Writer
from rcnnkit.detecting.search import DetectedPicture, counted
from rcnnkit.text import count


@dataclass
class Tally:
    """Counts what is done."""

    least: float  # the score from which on detections are named
    searched: int = 0  # pictures and frames
    failed: int = 0
    pictures: int = 0  # that are drawn
    videos: int = 0
    _last: DetectedPicture | None = None  # frame
    _frames: int = 0
    _names: Counter[str] = field(default_factory=Counter)  # of what was found in the frames of its video

    def add(self, picture: DetectedPicture) -> list[str]:
        """The lines that are due: that of a picture, or of the video before."""
        lines = [] if self._last is None or picture.source is self._last.source else self.end()
        self.searched += picture.detections is not None
        self.failed += picture.error is not None
        if picture.frame is None:
            self.pictures += picture.drawn is not None
            return lines if picture.error else [*lines, picture.summary(self.least)]
        if picture.detections is not None:
            self._names.update(picture.detections.above(self.least).names)
        self._frames += 1
        self._last = picture
        return lines

    def end(self) -> list[str]:
        """The line of the last video, if it has none yet."""
        if self._last is None:
            return []
        file = self._last.drawn
        self.videos += file is not None
        what = counted(self._names) or f"nothing that scores {self.least:g}"
        number = count(self._frames, "frame")
        line = f"{self._last.source.name}: {number}, {what}{f'; drawn in {file}' if file else ''}"
        self._last, self._frames, self._names = None, 0, Counter()
        return [line]

    def written(self, writer: Writer) -> list[str]:
        """What was written, and where."""
        things = [count(n, thing) for n, thing in ((self.pictures, "picture"), (self.videos, "video")) if n]
        lines = []
        if writer.results:
            things.append(count(writer.results.written, "detection"))
            lines.append(
                f"wrote {', '.join(things[:-1])}{' and ' * bool(things[:-1])}{things[-1]} in {writer.results.path}"
            )
        if writer.crops:
            lines.append(f"wrote {counted(writer.crops.written) or 'no object'} in {writer.crops.folder}")
        return lines if self.searched else []
