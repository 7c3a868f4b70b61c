"""How tables are written: as MyST for the book's pages, as plain HTML for notebooks."""

from __future__ import annotations

import html
import re

NONE = "—"  # there is no such figure
SMOKE_MARK = "smoke preset: not comparable with the paper"
SMOKE = f'<div class="smoke-mark">{SMOKE_MARK}</div>\n\n'


def percent(share: float, low: float, high: float) -> str:
    """An accuracy and its interval, fractions, as "48.8 [45.7, 51.9]" in percent.

    A narrow column breaks it before the interval, not within: the space there is a no-break one.
    """
    return f"{100 * share:.1f} [{100 * low:.1f},\N{NO-BREAK SPACE}{100 * high:.1f}]"


def points(difference: float, low: float, high: float) -> str:
    """A difference and its interval, both in points, as "+1.2 [-1.8, +4.2]"."""
    shown = (round(value, 1) + 0.0 for value in (difference, low, high))
    return "{:+.1f} [{:+.1f},\N{NO-BREAK SPACE}{:+.1f}]".format(*shown)


def chance(p: float) -> str:
    """A p value: "p = 0.45", or "p < 0.001"."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def myst_table(preset, name, caption, head, rows, classes="numbers", widths=None) -> str:
    """A captioned list-table, below the mark if the preset is smoke."""
    options = [f":name: {name}", f":class: {classes}", ":header-rows: 1"]
    options += [f":widths: {widths}"] if widths else []
    lines = [f"{'  -' if i else '* -'} {cell}" for row in [head, *rows] for i, cell in
             enumerate(row)]
    mark = SMOKE if preset == "smoke" else ""
    return mark + "\n".join([f"```{{list-table}} {caption}", *options, "", *lines, "```", ""])


def html_table(preset, head, rows, *, caption="", classes="numbers") -> str:
    """A table as plain HTML, scrolling in itself, below the mark if the preset is smoke.

    With the class "cards" a phone shows each row as a card, its cells behind their heads.
    """
    named = [f' data-head="{html.escape(str(cell))}"' for cell in head] \
        if "cards" in classes.split() else [""] * len(head)

    def line(tag, row, heads):
        cells = (f"<{tag}{name}>{html.escape(str(cell))}</{tag}>"
                 for cell, name in zip(row, heads, strict=False))
        return f"<tr>{''.join(cells)}</tr>"

    lines = [line("th", head, [""] * len(head)), *(line("td", row, named) for row in rows)]
    return (f'{SMOKE if preset == "smoke" else ""}<div class="pst-scrollable-table-container">'
            f'<table class="table {classes}"><caption>{html.escape(caption)}'
            f'</caption><thead>{lines[0]}</thead><tbody>{"".join(lines[1:])}</tbody></table></div>')


def escaped(text) -> str:
    """Text of a file as Markdown that shows it: on one line, no character of it markup or HTML."""
    return re.sub(r"([^\w\s.,:;%/()+@-])", r"\\\1", " ".join(str(text).split()))
