"""Detecting in whatever people have: files, folders, globs, URLs, videos, cameras, and what a program holds."""

from rcnnkit.detecting.files import detect_files
from rcnnkit.detecting.outputs import Outputs
from rcnnkit.detecting.search import DetectedPicture, detect_each
from rcnnkit.detecting.sources import Source
from rcnnkit.detecting.videos import Frame

__all__ = ["DetectedPicture", "Frame", "Outputs", "Source", "detect_each", "detect_files"]
