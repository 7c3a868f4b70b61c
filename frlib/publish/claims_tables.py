"""The paper's claims as tables, one for the book and one for the end of a notebook."""

from __future__ import annotations

import numpy as np

from frlib.publish.book_tables import read_as, setting_of
from frlib.publish.claims import NOT_RUN, deciding, evidence, paper, reasoned, released
from frlib.publish.markup import NONE, chance, html_table, myst_table, points

CLAIMS = ["Claim", "Paper", "Ours", "Verdict"]


def claims(preset: str, results: dict, larger: dict | None = None) -> str:
    """Every statement of claims.yml with the paper's figures, ours and the verdict.

    larger: as in `first_page.headline`; what it decides says so.
    """
    rows, used = [], {}
    for statement in paper()["statements"]:
        name, found = deciding(statement, preset, results, larger or {})
        row = _claim(statement, found, "**{}**")
        if name != preset:
            used[name] = found
            row[2] = f"preset {name}: {row[2]}"
        rows.append(row)
        if other := released(statement, preset, results, larger or {}):
            rows.append(_as_released(statement, *other, preset, "**{}**"))
    setting = setting_of(preset, results) + "".join(
        f" Rows that say preset {name} are of it. {setting_of(name, found)}"
        for name, found in used.items())
    return myst_table(
        preset, "claims", "The paper's claims: both sides of each comparison, accuracies and "
        "shares in %, and their difference in points with its 95 % interval (roughness: in its own "
        f"unit). {setting}", CLAIMS, rows, "claims", "34 14 34 18")


def _as_released(statement: dict, name: str, found: dict, preset: str, form: str) -> list[str]:
    """The row of a statement again, with the regulariser as released."""
    _, theirs, ours, told = _claim(statement, found, form)
    return [f"{statement['id']}, the regulariser as its code was released", theirs,
            f"preset {name}: " * (name != preset) + ours, told]


def claims_html(preset: str, results: dict, ids, labels: dict | None = None) -> str:
    """Some statements, as ["C6", "C7"], as plain HTML, for the end of a notebook.

    `labels`, {method: label}: which results a statement about the methods is judged by; the
    caption names those that are not the preset's own.
    """
    titles, results = paper()["table2"]["row_titles"], read_as(results, labels)
    statements = [s for s in paper()["statements"] if s["id"] in ids]
    named = [m for s in statements for m in (s["test"].get("greater"), *s["test"].get("than", []))]
    other = [f"{titles.get(m, m)} is {labels[m]}" for m in dict.fromkeys(named)
             if labels and labels.get(m, m) != m]
    told = f" In these verdicts {', '.join(other)}." if other else ""
    rows = []
    for statement in statements:
        rows.append(_claim(statement, results))
        if again := released(statement, preset, results, {}):
            rows.append(_as_released(statement, *again, preset, "{}"))
    return html_table(preset, CLAIMS, rows, classes="claims", caption=(
        f"Accuracies in % where a row says nothing else. {setting_of(preset, results)}{told}"))


def _claim(statement: dict, results: dict, form: str = "{}") -> list[str]:
    """The row of one claim: its text, the paper's numbers, ours, the verdict."""
    found, (verdict, reason) = evidence(statement, results), reasoned(statement, results)
    theirs = statement["paper"]
    about = "about " * bool(statement.get("read_off"))
    sides = _sides(statement["test"])
    ours = "; ".join(_compared(c, *names) for c, names in zip(found, sides, strict=True)
                     if c) or NOT_RUN
    return [f"{statement['id']}. {statement['text']} ({statement['where']})",
            f"{about}{theirs[0]} > {theirs[1]} ({theirs[0] - theirs[1]:+.4g})" if theirs else NONE,
            ours, form.format(verdict) + (f": {reason}" if reason else "")]


def _sides(test: dict) -> list[tuple[str, str]]:
    """What the left and the right number of each comparison of a claim are of."""
    def title(method):
        return paper()["table2"]["row_titles"].get(method, method)

    if test["kind"] in ("methods", "bands"):
        of = {"overfitting_gap": "fall of ", "gap": "gap of "}.get(test.get("metric"), "")
        left = of + title(test["greater"])
        return [(left, of + title(other)) for other in test.get("than", ())] or [(left, "")]
    if test["kind"] == "bandwidths":
        return [tuple(f"bandwidth {test[side]}" if test[side] < 32 else "no filter"
                      for side in ("greater_at_bandwidth", "than_at_bandwidth"))]
    if test["kind"] == "change":
        return [(f"{test['greater']} moves", f"{test['than']} moves")]
    return [("by the filter", "then left")]


def _compared(c: dict, left_name: str, right_name: str) -> str:
    """"AT-FR: 33.9 < AT: 40.1, -6.1 [-7.5, -4.8] (p < 0.001; 5,000 images, 1 seed)"."""
    digits = 3 if "filters" in c["count"] else 1
    left, right = (f"{round(c[side], digits) + 0.0:.{digits}f}" for side in ("left", "right"))
    sign = "=><"[int(np.sign(float(left) - float(right)))]
    change = f", {points(c['left'] - c['right'], *c['interval'])}" if c["interval"] else ""
    right_name = f"{right_name}: " * bool(right_name)
    told = f"{left_name}: {left} {sign} {right_name}{right}{change}"
    seeds = f", {c['seeds']} seed{'s' * (c['seeds'] > 1)}" if "seeds" in c else ""
    return f"{told} ({chance(c['p'])}; {c['count']}{seeds})"
