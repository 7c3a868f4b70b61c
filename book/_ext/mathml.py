"""A Sphinx math renderer that writes MathML, so that the pages need no script and no download.

The conversion is docutils' own ``latex2mathml``. A formula it cannot read is a build warning
and is shown as source; with ``-W`` it stops the build.
"""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)


def convert(node, block):
    """MathML for the LaTeX source in ``node``; the escaped source if it cannot be converted."""
    source = node.astext().strip().replace(r"\dots", r"\ldots")   # the one docutils lacks
    try:
        return tex2mathml(source, as_block=block)
    except (SyntaxError, ValueError, IndexError, KeyError, TypeError) as error:
        logger.warning("formula not converted to MathML: %s: %s", source, error, location=node)
        return f"<code>{source.replace('&', '&amp;').replace('<', '&lt;')}</code>"


def visit_inline(self, node):
    self.body.append(f'<span class="math notranslate nohighlight">{convert(node, False)}</span>')
    raise nodes.SkipNode


def visit_block(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    self.body.append(f'<div class="formula">{convert(node, True)}</div>')
    if node.get("number"):
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
