"""Follow each object through a video: python track.py WEIGHTS VIDEO OUT.mp4

`pip install supervision trackers` installs what it needs. A number that stays with an object is drawn beside it.
"""

import sys
from typing import Any

import numpy as np
import supervision
from trackers import ByteTrackTracker

import rcnnkit

weights, video, out = sys.argv[1:]
detector = rcnnkit.load(weights)
info = supervision.VideoInfo.from_video_path(video)
tracker = ByteTrackTracker(frame_rate=info.fps)
by_object = supervision.ColorLookup.TRACK
boxes = supervision.BoxAnnotator(color_lookup=by_object)
labels = supervision.LabelAnnotator(color_lookup=by_object)
seen: dict[int, str] = {}  # number -> class

with supervision.VideoSink(out, info) as sink:
    for frame in rcnnkit.detect_each(detector, video):
        if not isinstance(frame.picture, np.ndarray) or frame.detections is None:
            sys.exit(str(frame.error))
        tracked: Any = tracker.update(frame.detections.to_supervision())
        tracked = tracked[tracked.tracker_id >= 0]  # others have been seen once only
        names = tracked.data.get("class_name", [])
        seen |= dict(zip(tracked.tracker_id.tolist(), names, strict=True))
        texts = [f"{name} {number}" for number, name in zip(tracked.tracker_id, names, strict=True)]
        drawn = boxes.annotate(frame.picture[:, :, ::-1].copy(), tracked)  # as OpenCV has it: blue first
        sink.write_frame(labels.annotate(drawn, tracked, texts))

for number, name in sorted(seen.items()):
    print(f"{name} {number}")
