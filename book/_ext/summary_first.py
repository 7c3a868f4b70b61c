"""On paper (make pdf, one page of HTML) the one-page summary comes before the first page."""

from sphinx.addnodes import start_of_file

FIRST = "book/summary"


def move(app, doctree, docname):
    """doctree-resolved: all pages hang below the root's by now; take this one to the front."""
    if app.builder.name == "singlehtml":
        for page in [p for p in doctree.findall(start_of_file) if p["docname"] == FIRST]:
            page.parent.remove(page)
            doctree.insert(0, page)


def setup(app):
    app.connect("doctree-resolved", move)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
