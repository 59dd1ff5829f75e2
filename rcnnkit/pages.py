"""HTML pages that need no network: for a phone, a desk, and paper."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from rcnnkit.text import visible

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --paper: #fff; --soft: #5b6570; --line: #d5dae0; --plate: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --paper: #14171a; --soft: #a2acb6; --line: #39414a; --plate: #1f2429; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); font-size: .88rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(6rem, 1fr)); gap: .6rem; margin: 1.2rem 0; }
.card { background: var(--plate); border-radius: .5rem; padding: .6rem .7rem; }
.card b { display: block; font-size: clamp(1.2rem, 5vw, 1.8rem); line-height: 1.3; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .6rem 0; padding: 0; list-style: none;
  font-size: .88rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem; margin-right: .35rem; }
.name { display: flex; justify-content: space-between; gap: 1rem; font-size: .92rem; margin-top: .7rem; }
.bar { display: flex; height: 1.5rem; border-radius: .25rem; overflow: hidden; background: var(--plate); }
.bar span { flex: none; min-width: 0; overflow: hidden; color: #000; font-size: .75rem; line-height: 1.5rem;
  text-align: center; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; min-width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
th:first-child, td:first-child { white-space: normal; min-width: 6.5rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17.5rem), 1fr)); gap: 1rem; }
.plots > * { max-width: 28rem; }
.even { table-layout: fixed; min-width: 0; width: 100%; max-width: 28rem; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: currentColor; }
figure { margin: 0; } figcaption { font-size: .8rem; color: var(--soft); }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 9.5rem), 1fr)); gap: .7rem;
  margin: 0 0 1.2rem; }
.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.pictures img { display: block; width: 100%; height: auto; border-radius: .25rem; }
details { margin: .5rem 0; padding: .5rem .7rem; background: var(--plate); border-radius: .5rem; }
summary { cursor: pointer; } details ul { margin: .4rem 0; padding-left: 1.2rem; font-size: .88rem; }
summary i, .card i { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem; margin-right: .35rem; }
h1, li, summary, figcaption, .card { overflow-wrap: anywhere; }
@page { margin: 1.5cm; }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --plate: #f2f2f2; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  h2 { break-after: avoid; } .legend, .name { break-after: avoid; }
  figure, tr, .card, .name, .bar, .plots, section { break-inside: avoid; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding-right: .4rem; white-space: normal; }
  .pictures, .cards { grid-template-columns: repeat(4, 1fr); } .plots { grid-template-columns: repeat(3, 1fr); }
  .wide { grid-template-columns: repeat(2, 1fr); }
}
"""


def whole_page(title: str, parts: Iterable[str], head: str = "") -> str:
    """A page of these parts, each of which is HTML; empty ones are left out. `head` is HTML, too."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title>{head}<style>{STYLE}</style></head>\n"
        f"<body>{chr(10).join(filter(None, parts))}\n</body></html>\n"
    )


def text(words: str) -> str:
    """Any words as HTML that shows them, whatever names files and classes have."""
    return escape(visible(words))


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of text, whose first row is the header; it scrolls where it is wider than the page."""
    header, *body_rows = rows

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(cells, "td") for cells in body_rows)
    return f'<div class="scroll"><table><thead>{line(header, "th")}</thead><tbody>{body}</tbody></table></div>'


def jpeg_source(data: bytes) -> str:
    """What `src` has to be for a picture that is part of its page."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
