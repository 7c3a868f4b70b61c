"""Launch buttons that open a chapter's source: `notebooks/`, not the executed copy a page shows.

The theme builds each address from the page's own place below `book/executed/`, a folder that is
generated and in no repository. Live code inside a page (thebe) needs a script from a CDN; it is
left out.
"""

import sphinx_thebe

SHOWN, SOURCE = "/book/executed/", "/notebooks/"


def open_sources(app, pagename, templatename, context, doctree):
    """html-page-context: turn the addresses of Colab and Binder to the notebooks' sources."""
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                button["url"] = button["url"].replace(SHOWN, SOURCE)


def setup(app):
    live_code = sphinx_thebe.init_thebe_core, sphinx_thebe.update_thebe_context
    connected = [listener for listeners in app.events.listeners.values() for listener in listeners]
    for listener in connected:
        if listener.handler in live_code:
            app.disconnect(listener.id)
    app.connect("html-page-context", open_sources, priority=900)  # after the theme's own 501
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
