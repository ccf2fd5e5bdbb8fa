# SPDX-License-Identifier: Apache-2.0
"""A page for a browser that needs nothing beside itself, and lets nothing of what was recorded do anything.

Two guards, each enough by itself. Every text is escaped where it stands. And a policy (https://www.w3.org/TR/CSP3/) allows the two
scripts of this page by their hashes and no other, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from typing import Any, Final

from otel_hwmetrics.display.plots.picture import Heading
from otel_hwmetrics.display.table import cut, plain

LONGEST: Final = 80
"""Columns of a name or a fact; a command may be longer than a page is wide."""
SENTENCE: Final = 400

_DRAW: Final = """
"use strict";
const picture = JSON.parse(document.getElementById("picture").textContent);
const place = document.getElementById("plot");
const dark = matchMedia("(prefers-color-scheme: dark)");
const coloured = () => picture.colours[dark.matches ? "dark" : "light"];
const layout = picture.layout;
// plotly takes a number on an axis of dates for a moment in the browser's zone, and a text for what it says.
const said = (ms) => new Date(ms).toISOString().slice(0, -1).replace("T", " ");
for (const trace of layout.xaxis.type === "date" ? picture.data : []) {
  if (trace.x.bdata) {
    const bytes = Uint8Array.from(atob(trace.x.bdata), (each) => each.charCodeAt(0));
    trace.x = Array.from(new Float64Array(bytes.buffer), said);
  }
}
for (const [path, value] of Object.entries(coloured())) {
  const keys = path.split("."), last = keys.pop();
  keys.reduce((part, key) => (part[key] ??= {}), layout)[last] = value;
}
const asSvg = {
  name: "Download as SVG", icon: Plotly.Icons.disk,
  click: (plot) => Plotly.downloadImage(plot, {format: "svg", filename: picture.name}),
};
Plotly.newPlot(place, picture.data, layout, {
  displaylogo: false, responsive: true, displayModeBar: true, plotlyServerURL: "",
  modeBarButtons: [["toImage", asSvg], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
  toImageButtonOptions: {format: "png", scale: 2, filename: picture.name},
});
dark.addEventListener("change", () => Plotly.relayout(place, coloured()));
"""

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2937; --soft: #6b7280; --paper: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --soft: #9ca3af; --paper: #111827; } }
body { margin: 0; padding: 20px 24px 32px; background: var(--paper); color: var(--ink);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 22px; font-weight: 650; overflow-wrap: anywhere; }
ul { list-style: none; margin: 4px 0 0; padding: 0; color: var(--soft); }
li { display: inline; overflow-wrap: anywhere; }
li + li::before { content: " · "; }
p { margin: 4px 0 0; color: var(--soft); }
#plot { margin-top: 8px; }
"""


def safe(text: str, longest: int = LONGEST) -> str:
    """A text as plotly, or a page, shows it: in one line, not too long, and never as markup.

    plotly takes some tags in its texts as HTML does (https://plotly.com/javascript/reference/): bold, links, line breaks.
    """
    return html.escape(cut(plain(text), longest), quote=False)


def page(name: str, heading: Heading, figure: str, colours: dict[str, dict[str, Any]]) -> str:
    """A whole page.

    Args:
        name: What a picture is called that is saved from it.
        heading: Above the picture.
        figure: ``data`` and ``layout`` of plotly, as JSON.
        colours: For ``light`` and ``dark``: what of the layout has which colour, by its path.
    """
    library = _library()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(library)}' '{_hash(_DRAW)}'",
            "style-src 'unsafe-inline'",  # plotly sets styles of its elements
            "img-src data: blob:",  # and makes a picture of itself, when asked to
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    data = f'{{"name": {json.dumps(name)}, "colours": {json.dumps(colours)}, {figure.strip()[1:]}'
    facts = "".join(f"<li>{safe(each, SENTENCE)}</li>" for each in heading.facts)
    notes = "".join(f"<p>{safe(each, SENTENCE)}</p>\n" for each in heading.notes)
    title = safe(heading.title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<ul>{facts}</ul>
{notes}<noscript><p>Scripts have to be allowed for this page; it asks nobody for anything.</p></noscript>
<div id="plot"></div>
<script type="application/json" id="picture">{_inert(data)}</script>
<script>{library}</script>
<script>{_DRAW}</script>
</body>
</html>
"""


@cache
def _library() -> str:
    """plotly.js, which comes with plotly. Its line ends are those that a browser makes of others before it takes the hash."""
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("\r\n", "\n").replace("\r", "\n")


@cache
def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _inert(data: str) -> str:
    """JSON that ends no element of a page, and begins none; the same values."""
    return data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
