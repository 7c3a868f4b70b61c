"""Folds the settings of an executed notebook: the cell of defaults, and papermill's."""

import json

FOLDED = {"parameters": "Settings: the defaults",
          "injected-parameters": "Settings that this page was run with"}


def fold(app, docname, source):
    """source-read: tag these cells, in what is parsed alone, so that the theme hides their code."""
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        tags = cell["metadata"].setdefault("tags", [])
        for tag in FOLDED.keys() & set(tags):
            tags.append("hide-input")
            cell["metadata"].setdefault("mystnb", {})["code_prompt_show"] = FOLDED[tag]
    source[0] = json.dumps(notebook)


def setup(app):
    app.connect("source-read", fold)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
