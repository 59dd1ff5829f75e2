"""A page in a real browser: its width, its pictures, and what its console says."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

# The page in a frame of the width in question: a window cannot be as narrow as a phone.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><iframe width="{width}" height="900" srcdoc="{page}"></iframe>
<pre id="seen"></pre><script>
document.querySelector("iframe").onload = (event) => {{
  const inside = event.target.contentDocument;
  for (const each of inside.querySelectorAll("details")) each.open = true;
  const images = [...inside.images];
  document.getElementById("seen").textContent = JSON.stringify({{
    width: inside.documentElement.scrollWidth,
    images: images.length,
    missing: images.filter((each) => !each.complete || !each.naturalWidth).length,
  }});
}};
</script>"""


def opened(page: str, width: int, folder: Path) -> dict[str, Any]:
    """What a browser says of a page in a frame so wide; a test without a browser is skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("needs Chromium; install it to see pages in a browser")
    file = folder / f"frame-{width}.html"
    file.write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={folder}/user"]
    command = [browser, *flags, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)
    assert seen, done.stderr
    return {**json.loads(html.unescape(seen[1])), "console": [x for x in done.stderr.splitlines() if "CONSOLE" in x]}
