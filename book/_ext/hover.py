"""The first sentence of a term's definition beside the pointer, wherever the term is linked."""

from docutils import nodes


def hover(app, doctree, docname):
    """doctree-resolved: no script and no download, the browser shows a link's title by itself."""
    terms = [place for (kind, _), place in app.env.get_domain("std").objects.items()
             if kind == "term"]
    sentences = {}
    for page in {page for page, _ in terms}:
        for item in app.env.get_doctree(page).findall(nodes.definition_list_item):
            text = " ".join(item.next_node(nodes.definition).astext().split())
            for term in item.findall(nodes.term):
                sentences.update(dict.fromkeys(term["ids"], text.partition(". ")[0].rstrip(".")))
    for link in doctree.findall(nodes.reference):
        target = link.get("refid") or link.get("refuri", "").partition("#")[2]
        if target in sentences:
            link["reftitle"] = f"{sentences[target]}."


def setup(app):
    app.connect("doctree-resolved", hover)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
