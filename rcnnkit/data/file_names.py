"""File names beyond ASCII: an accented letter is one character or two, and macOS splits what others keep as one."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from rcnnkit.archives import stamp_of

UNUSUAL = re.compile(r"//|(^|/)\.(/|$)|/$|[^\x00-\x7f]")  # what `Path` shortens, and what is composed


def composed(text: str) -> str:
    """The same text with each accented letter as one character (Unicode NFC): two that read alike are equal then."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_there(path: Path) -> bool:
    """Whether there is such a file, also in an archive; False where the name cannot be a file's, being too long."""
    return stamp_of(path) is not None


class StoredNames:
    """Finds files whatever way their names are composed in. Folders are listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, str]] = {}  # composed name -> the name that the folder has

    def find_text(self, path: str) -> str:
        """The same of a path as text, which for most of a hundred thousand is what comes back."""
        return str(self.find(Path(path))) if UNUSUAL.search(path) else path

    def find(self, path: Path) -> Path:
        """`path` where it exists; else what has the same name there, composed otherwise; else `path`."""
        if str(path).isascii() or is_there(path):
            return path
        folder = self.find(path.parent)
        if folder not in self._folders:
            names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
            self._folders[folder] = {composed(name): name for name in names if not name.isascii()}
        return folder / self._folders[folder].get(composed(path.name), path.name)
