"""The part of the page that shows how the objects were found: what each step did, proposals, and cells of regions."""

from __future__ import annotations

STYLE = """
#how { margin: 1.2rem 0; }
#how h2 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
#how td:last-child, #how th:last-child { text-align: left; white-space: normal; min-width: 9rem; }
#how th:first-child, #how td:first-child { background: var(--plate); }
#pick { font: inherit; max-width: 100%; }
#cells { display: block; width: 17.5rem; max-width: 100%; margin: .6rem 0; border-radius: .35rem; }
.maps { display: flex; flex-wrap: wrap; gap: .8rem; }
.maps figure { flex: 0 1 9rem; min-width: 0; }
.maps canvas { display: block; width: 100%; image-rendering: pixelated; border-radius: .25rem;
  background: var(--paper); }
"""

MARKUP = """<details id="how"><summary>How it was found</summary>
<p id="asked" class="soft" role="status"></p>
<div id="steps" hidden>
<div class="scroll"><table><thead><tr><th>Step</th><th>ms</th><th>What came out</th></tr></thead>
<tbody id="rows"></tbody></table></div>
<h2>Proposals</h2>
<label class="least">Best ones shown <input id="most" type="range" min="0" max="100" value="0">
<output id="many">0</output></label>
<h2>Regions</h2>
<p><label>What the head sees of <select id="pick"></select></label></p>
<canvas id="cells" width="560" height="560" hidden></canvas>
<p id="about" class="soft">Choose a region, or tap a box in the picture.</p>
<h2 id="features">Maps</h2>
<div class="maps" id="maps"></div>
</div></details>"""

SCRIPT = """
const how = it("how"), most = it("most"), pick = it("pick");
const cells = it("cells"), about = it("about"), maps = it("maps");
let current = null, steps = null, region = null;

function restart(picture) {  // another picture was given
  current = picture; steps = region = null;
  it("steps").hidden = true; it("asked").textContent = "";
  if (how.open) trace();
}

async function trace() {
  if (steps || !current || !answer) return;
  const mine = current;
  it("asked").textContent = "Looking again, step by step …";
  try {
    const reply = await fetch("steps", { method: "POST", body: mine });
    const said = await reply.json().catch(() => ({ detail: "the server answered with status " + reply.status }));
    if (mine !== current) return;
    if (!reply.ok) { it("asked").textContent = sentence(said.detail); return; }
    steps = said;
    tell();
  } catch (error) {
    if (mine === current) it("asked").textContent = "The server does not answer.";
  }
}

function tell() {
  it("asked").textContent = ""; it("steps").hidden = false;
  it("rows").replaceChildren(...steps.steps.map(one => {
    const row = document.createElement("tr");
    for (const words of [one.name, one.milliseconds.toFixed(1), one.made]) row.insertCell().textContent = words;
    return row;
  }));
  most.max = steps.proposals.length;
  most.value = Math.min(most.value, steps.proposals.length);
  const choices = [...steps.detections.map((one, i) => [one.name + ": " + one.score.toFixed(2), "d" + i]),
    ...steps.proposals.map((one, i) => ["proposal " + (i + 1) + ", " + one.score.toFixed(2), "p" + i])];
  pick.replaceChildren(new Option("…", ""), ...choices.map(([words, key]) => new Option(words, key)));
  it("features").hidden = !steps.maps.length;
  maps.replaceChildren(...steps.maps.map(one => {
    const figure = document.createElement("figure"), sheet = document.createElement("canvas");
    sheet.width = one.cells[0].length; sheet.height = one.cells.length;
    const pen = sheet.getContext("2d");
    one.cells.forEach((row, y) => row.forEach((strength, x) => {
      pen.fillStyle = blue(strength / 255); pen.fillRect(x, y, 1, 1);
    }));
    const words = document.createElement("figcaption");
    words.textContent = one.width + " × " + one.height + " cells, " + one.channels + " channels";
    figure.append(sheet, words);
    return figure;
  }));
  choose("");
}

function blue(share) { return "rgba(0, 114, 178, " + share.toFixed(3) + ")"; }

function choose(key) {
  const list = key[0] === "p" ? steps.proposals : steps.detections;
  region = key ? list[Number(key.slice(1))] : null;
  pick.value = key;
  cells.hidden = !region || !region.cells.length;
  if (!region) about.textContent = "Choose a region, or tap a box in the picture.";
  else if (!region.cells.length) {
    about.textContent = "This detector has no cells to show: it does not cut regions out of one set of maps.";
  } else {
    const [x1, y1, x2, y2] = region.box, side = region.cells.length;
    const each = [x2 - x1, y2 - y1].map(length => (length / side).toFixed(1)).join(" × ");
    about.textContent = side + " × " + side + " cells of " + each + " pixels, from the map of stride " + region.stride +
      ". The stronger the blue, the stronger the channels respond there.";
    const pen = cells.getContext("2d"), ratio = image.naturalWidth / steps.width || 1;
    cells.width = 560; cells.height = Math.max(70, Math.min(1120, Math.round(560 * (y2 - y1) / (x2 - x1))));
    pen.drawImage(image, x1 * ratio, y1 * ratio, (x2 - x1) * ratio, (y2 - y1) * ratio, 0, 0, cells.width, cells.height);
    const wide = cells.width / side, high = cells.height / side;
    region.cells.forEach((row, y) => row.forEach((strength, x) => {
      pen.fillStyle = blue(.75 * strength / 255); pen.fillRect(x * wide, y * high, wide, high);
    }));
    lines(pen, 0, 0, cells.width, cells.height, side, 2);
  }
  show();
}

function lines(pen, left, top, width, height, side, thick) {
  for (const [colour, wide] of [["#000", thick + 1], ["#fff", thick]]) {
    pen.strokeStyle = colour; pen.lineWidth = wide;
    pen.beginPath();
    for (let i = 0; i <= side; i++) {
      pen.moveTo(left + i * width / side, top); pen.lineTo(left + i * width / side, top + height);
      pen.moveTo(left, top + i * height / side); pen.lineTo(left + width, top + i * height / side);
    }
    pen.stroke();
  }
}

function drawSteps(pen, factor) {  // on the picture, with the boxes
  it("many").textContent = most.value;
  if (!steps) return;
  pen.lineWidth = 1; pen.strokeStyle = "#ffd000";
  for (const one of steps.proposals.slice(0, Number(most.value))) {
    const [x1, y1, x2, y2] = one.box.map(side => side * factor);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  if (!region) return;
  const [x1, y1, x2, y2] = region.box.map(side => side * factor);
  lines(pen, x1, y1, x2 - x1, y2 - y1, region.cells.length || 1, 1);
}

canvas.onclick = event => {  // the smallest box under the finger
  if (!steps) { how.open = true; return; }
  const frame = canvas.getBoundingClientRect(), factor = steps.width / frame.width;
  const x = (event.clientX - frame.left) * factor, y = (event.clientY - frame.top) * factor;
  const visible = [...steps.detections.map((one, i) => [one, "d" + i]).filter(([one]) => one.score >= least.value),
    ...steps.proposals.slice(0, Number(most.value)).map((one, i) => [one, "p" + i])];
  const area = ([one]) => (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]);
  const under = visible.filter(([one]) => one.box[0] <= x && x <= one.box[2] && one.box[1] <= y && y <= one.box[3]);
  choose(under.length ? under.sort((a, b) => area(a) - area(b))[0][1] : "");
};
how.ontoggle = () => { if (how.open) trace(); };
most.oninput = show;
pick.onchange = () => choose(pick.value);
"""
