"""The page in a browser, with answers of the server: a picture is dropped, and everything is asked for."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from rcnnkit.detectors.detector import Detector
from rcnnkit.images import read_picture
from rcnnkit.serving.answers import answer
from rcnnkit.serving.page import page
from tests.reporting.browser import opened
from tests.serving.conftest import jpeg

STRANGE = "<script>alert(1)</script>\"&' \u0627\u0628 \U0001f431 " + "longword" * 12
PICTURE = jpeg(300, 400)
# `fetch` answers as the server does; then a person chooses a picture, opens the steps, and chooses a proposal.
DRIVER = """<script>
const answers = ANSWERS, asked = [];
window.fetch = async address => {
  asked.push(address);
  return { ok: true, status: 200, json: async () => answers[address] };
};
const bytes = Uint8Array.from(atob("BYTES"), letter => letter.charCodeAt(0));
const pause = () => new Promise(done => setTimeout(done, 100));
(async () => {
  await look(new File([bytes], "a.jpg", { type: "image/jpeg" }));
  how.open = true;
  await pause();
  most.value = 20; most.oninput();
  least.value = 0; least.oninput();
  pick.value = "p0"; pick.onchange();
  await pause();
  const pen = cells.getContext("2d"), seen = pen.getImageData(0, 0, cells.width, cells.height).data;
  console.log("SEEN " + JSON.stringify({
    asked, told: told.textContent, rows: it("rows").rows.length, found: it("found").rows.length,
    first: it("found").rows[0].cells[0].textContent, picks: pick.options.length, maps: maps.children.length,
    about: about.textContent, cells: !cells.hidden && seen.some(value => value), many: it("many").textContent,
    tall: cells.height,
  }));
})();
</script>"""


@pytest.fixture(scope="module")
def driven(detector: Detector) -> tuple[str, dict[str, Any]]:
    """The page with a driver, and what the server says of the picture."""
    from rcnnkit.serving.steps import trace

    picture = read_picture(PICTURE)
    detected = answer(picture, detector(picture)).model_dump()
    steps = trace(detector, picture).model_dump()
    for one in (*detected["detections"], *steps["detections"]):
        one["name"] = STRANGE
    answers = json.dumps({"detect": detected, "steps": steps}).replace("<", "\\u003c")
    html = page("Faster R-CNN", [STRANGE, "dog"], (0.0, 1.0, 0.5))
    driver = DRIVER.replace("ANSWERS", answers).replace("BYTES", base64.b64encode(PICTURE).decode())
    return html.replace("</body>", f"{driver}</body>"), steps


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_person_looks_at_everything(driven: tuple[str, dict[str, Any]], tmp_path: Path, width: int) -> None:
    html, steps = driven
    seen = opened(html, width, tmp_path)
    assert seen["width"] <= width
    (line,) = seen["console"]
    said = re.search(r'"SEEN (\{.*\})"', line)
    assert said, line
    values = json.loads(said[1])
    x1, y1, x2, y2 = steps["proposals"][0]["box"]
    assert values["asked"] == ["detect", "steps"]
    assert values["told"] == f"{len(steps['detections'])} objects"
    assert (values["rows"], values["found"], values["maps"]) == (5, len(steps["detections"]), 5)
    assert values["first"] == STRANGE
    assert values["picks"] == 1 + len(steps["detections"]) + len(steps["proposals"])
    assert values["about"].startswith(f"7 × 7 cells of {(x2 - x1) / 7:.1f} × {(y2 - y1) / 7:.1f} pixels, from the map")
    assert values["cells"]
    assert values["many"] == "20"


def test_the_page_is_one_file() -> None:
    html = page("Faster R-CNN", [STRANGE, "dog"], (0.0, 1.0, 0.5))
    assert "<script>alert" not in html
    assert not re.search(r"(?:src|href)=", html)
