"""The page where a person drops a picture and sees its boxes, and how they were found. Nothing comes from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rcnnkit.colours import class_colour
from rcnnkit.pages import text, whole_page
from rcnnkit.serving import steps_page

STYLE = """
.drop { display: block; border: 2px dashed var(--line); border-radius: .6rem; padding: 1.6rem 1rem; text-align: center;
  background: var(--plate); cursor: pointer; }
.drop.over, .drop:focus-within { border-color: #0072b2; }
.drop input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.drop b { display: block; font-size: 1.1rem; }
.least { display: flex; align-items: center; gap: .7rem; margin: 1rem 0 .6rem; }
.least input { flex: 1; min-width: 5rem; max-width: 24rem; accent-color: #0072b2; }
.least output { min-width: 3rem; font-variant-numeric: tabular-nums; }
#stage { position: relative; line-height: 0; margin-bottom: 1rem; }
#stage img { border-radius: .35rem; }
#stage canvas { position: absolute; inset: 0; }
#told { min-height: 1.5rem; margin: .8rem 0; overflow-wrap: anywhere; }
#told.bad { color: #c2410c; font-weight: 600; }
@media (prefers-color-scheme: dark) { #told.bad { color: #fb923c; } }
#found i { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem; margin-right: .4rem; }
p, label, td, figcaption { overflow-wrap: anywhere; }
[hidden] { display: none !important; }
"""

SCRIPT = """
const it = id => document.getElementById(id);
const drop = it("drop"), file = it("file"), stage = it("stage"), image = it("image"), canvas = it("boxes");
const told = it("told"), least = it("least"), shown = it("shown"), found = it("found"), after = it("after");
let answer = null, turn = 0;

function say(words, bad) { told.textContent = words; told.classList.toggle("bad", Boolean(bad)); }

function sentence(detail) {
  const why = typeof detail === "string" ? detail : JSON.stringify(detail);
  return why[0].toUpperCase() + why.slice(1) + ".";
}

async function look(picture) {
  const mine = ++turn;
  answer = null; after.hidden = true;
  say("Looking at " + (picture.name || "the picture") + " …");
  try {
    const reply = await fetch("detect", { method: "POST", body: picture });
    const said = await reply.json().catch(() => ({ detail: "the server answered with status " + reply.status }));
    if (mine !== turn) return;
    if (!reply.ok) return say(sentence(said.detail), true);
    answer = said;
    restart(picture);
    const old = image.src;
    image.onload = () => { canvas.hidden = false; show(); };
    image.onerror = async () => {  // a kind of picture that the browser does not show: the server draws it
      canvas.hidden = true; image.onload = null;
      const drawn = await fetch("detect?draw=1&min_score=" + least.value, { method: "POST", body: picture });
      image.onerror = null;
      if (drawn.ok && mine === turn) image.src = URL.createObjectURL(await drawn.blob());
    };
    image.src = URL.createObjectURL(picture);
    if (old) URL.revokeObjectURL(old);
    after.hidden = false;
    show();
  } catch (error) {
    if (mine === turn) say("The server does not answer.", true);
  }
}

function show() {
  shown.textContent = Number(least.value).toFixed(2);
  if (!answer) return;
  const seen = answer.detections.filter(one => one.score >= least.value);
  const weaker = answer.detections.length - seen.length;
  say(seen.length + (seen.length === 1 ? " object" : " objects") + (weaker ? ", " + weaker + " below this score" : ""));
  const rows = seen.map(one => {
    const row = document.createElement("tr");
    for (const words of [one.name, one.score.toFixed(2), one.box.map(side => Math.round(side)).join(", ")]) {
      row.insertCell().textContent = words;
    }
    const mark = document.createElement("i");
    mark.style.background = COLOURS[one.label % COLOURS.length];
    row.cells[0].prepend(mark);
    return row;
  });
  found.replaceChildren(...rows);
  it("table").hidden = !rows.length;
  // As wide as the page, unless the picture would be higher than most of the screen.
  const factor = Math.min(after.clientWidth / answer.width, .75 * window.innerHeight / answer.height);
  const width = answer.width * factor, height = answer.height * factor, ratio = window.devicePixelRatio || 1;
  for (const one of [image, canvas]) { one.style.width = width + "px"; one.style.height = height + "px"; }
  if (canvas.hidden) return;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "600 12px system-ui, sans-serif";
  pen.textBaseline = "top";
  for (const one of [...seen].reverse()) {  // the best comes last, on top
    const [x1, y1, x2, y2] = one.box.map(side => side * factor), colour = COLOURS[one.label % COLOURS.length];
    pen.lineWidth = 2; pen.strokeStyle = colour;
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const words = one.name + ": " + one.score.toFixed(2), wide = pen.measureText(words).width + 8;
    const left = Math.max(0, Math.min(x1 - 1, width - wide)), top = y1 >= 17 ? y1 - 17 : Math.min(y1, height - 17);
    pen.fillStyle = colour; pen.fillRect(left, top, wide, 17);
    pen.fillStyle = bright(colour) ? "#000" : "#fff"; pen.fillText(words, left + 4, top + 3);
  }
  drawSteps(pen, factor);
}

function bright(colour) {
  const [red, green, blue] = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
  return .299 * red + .587 * green + .114 * blue > 110;
}

file.onchange = () => { if (file.files[0]) look(file.files[0]); file.value = ""; };
least.oninput = show;
window.onresize = show;
document.onpaste = event => { const one = event.clipboardData.files[0]; if (one) look(one); };
document.ondragover = event => { event.preventDefault(); drop.classList.add("over"); };
document.ondragleave = event => { if (!event.relatedTarget) drop.classList.remove("over"); };
document.ondrop = event => {
  event.preventDefault(); drop.classList.remove("over");
  const one = event.dataTransfer.files[0];
  if (one) look(one);
};
"""


def page(title: str, class_names: Sequence[str], scores: tuple[float, float, float]) -> str:
    """The page as HTML.

    Args:
        title: of the detector.
        class_names: that it knows.
        scores: the least and the largest of the slider, and where it stands at first.
    """
    colours = ["#{:02x}{:02x}{:02x}".format(*class_colour(label)) for label in range(21)]
    names = ", ".join(class_names[:30]) + (f" and {len(class_names) - 30} more" if len(class_names) > 30 else "")
    low, high, first = scores
    slider = f'<input id="least" type="range" min="{low:g}" max="{high:g}" step="0.01" value="{first:g}">'
    return whole_page(
        title,
        [
            f"<style>{STYLE}{steps_page.STYLE}</style>",
            f'<h1>{text(title)}</h1><p class="soft">It finds: {text(names)}.</p>',
            '<label class="drop" id="drop"><input id="file" type="file" accept="image/*">'
            "<b>Choose a picture</b>or drop or paste one here. It is not kept.</label>",
            '<p id="told" role="status"></p>',
            '<div id="after" hidden>',
            f'<label class="least">Lowest score {slider}<output id="shown"></output></label>',
            '<div id="stage"><img id="image" alt="The picture that was given"><canvas id="boxes"></canvas></div>',
            '<div class="scroll" id="table"><table><thead><tr><th>Class</th><th>Score</th><th>Box: x1, y1, x2, y2</th>'
            '</tr></thead><tbody id="found"></tbody></table></div>',
            f"{steps_page.MARKUP}</div>",
            f"<script>const COLOURS = {json.dumps(colours)};{SCRIPT}{steps_page.SCRIPT}show();</script>",
        ],
    )
