"""The built book works anywhere: offline, on a phone, in the dark, on paper, for a screen reader.

Every page is opened from the disk in headless Chromium with the network off. FRLIB_SITE names the
folder of the built book, as `make site` does; without it only the checks themselves are tested.
"""

import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml

REPO = Path(__file__).resolve().parents[1]
SITE = os.environ.get("FRLIB_SITE")
WIDTHS = (390, 1400)  # px: a phone, and a laptop with both sidebars
PAPER = 680  # px: A4 between the margins of book.css
SCHEMES = ("light", "dark")
REDIRECT = re.compile(r"""<meta\s+http-equiv=["']?refresh["']?\s+content=["'][^"']*url=([^"']+)""",
                      re.IGNORECASE)

# What a page says of itself once it is loaded; all is opened, nothing moves.
CONTENT = r"""() => {
  const problems = [];
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  const brief = (text) => text.trim().replace(/\s+/g, " ").slice(0, 60);
  for (const image of document.images) {
    const alt = (image.getAttribute("alt") || "").trim();
    const name = image.src.split("/").pop().slice(0, 60);
    const decoration = image.closest("[aria-hidden=true], [role=presentation]");
    if (!decoration && (!alt || /\.(png|svg|jpe?g|gif|webp)$/i.test(alt)))
      problems.push(`image without alt text: ${name}`);
    if (image.complete && !image.naturalWidth) problems.push(`image not shown: ${name}`);
  }
  for (const formula of document.querySelectorAll(".math")) {
    const drawn = formula.querySelector("math, mjx-container, svg");
    const box = drawn && drawn.getBoundingClientRect();
    if (!drawn || !box.width || !box.height || formula.querySelector("merror"))
      problems.push(`equation not rendered: ${brief(formula.textContent)}`);
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = texts.nextNode());) {
    if (node.parentElement.closest("pre, code, script, style, annotation, textarea")) continue;
    if (/\\[a-zA-Z]{2,}|\\[([]|\$\$/.test(node.data))
      problems.push(`equation not rendered: ${brief(node.data)}`);
  }
  return {
    problems,
    anchors: [...document.querySelectorAll("[id], a[name]")].flatMap((e) => [e.id, e.name]),
    links: [...document.querySelectorAll("a[href], area[href], link[href]")].map((e) => e.href),
  };
}"""

# Nothing may be wider than the window, except inside a box that scrolls by itself.
LAYOUT = r"""() => {
  const width = document.documentElement.clientWidth, problems = [], found = new Set();
  if (document.documentElement.scrollWidth > width + 1)
    problems.push(`page scrolls sideways: ${document.documentElement.scrollWidth} px`);
  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height || (box.right <= width + 1 && box.left >= -1)) continue;
    if (box.bottom <= 0 && getComputedStyle(element).position !== "static") continue;
    let above = element.parentElement, scrolls = false;
    for (; above && above !== document.body; above = above.parentElement)
      if (/auto|scroll/.test(getComputedStyle(above).overflowX) || found.has(above)) scrolls = true;
    if (scrolls) continue;
    found.add(element);
    problems.push(`wider than the window: <${element.localName} class="${element.className}">, `
      + `${Math.round(box.left)} to ${Math.round(box.right)} px`);
  }
  return problems;
}"""

# A table that is wider than its place shows that it goes on; no claim hides its verdict; what the
# smoke preset printed stands below its mark.
CUES = r"""() => {
  const problems = [];
  for (const table of document.querySelectorAll(".bd-article table")) {
    const name = table.id || table.caption?.textContent.trim().slice(0, 40) || table.className;
    const box = table.parentElement, style = getComputedStyle(box);
    if (box.scrollWidth > box.clientWidth + 1) {
      if (style.backgroundImage === "none") problems.push(`table goes on unseen: ${name}`);
      if (table.matches(".claims")) problems.push(`verdicts are off the screen: ${name}`);
    }
    for (const head of table.querySelectorAll("thead tr:first-child th"))
      if (!head.textContent.trim()) problems.push(`column without a head: ${name}`);
  }
  for (const image of document.querySelectorAll(".bd-article figure img")) {
    const box = image.closest("figure");
    if (image.getBoundingClientRect().width > box.clientWidth + 1
        && !/auto|scroll/.test(getComputedStyle(box).overflowX))
      problems.push(`figure wider than its place: ${image.alt.slice(0, 40)}`);
  }
  const run = document.querySelector(".tag_injected-parameters")?.textContent || "";
  if (run.includes('preset = "smoke"'))
    for (const output of document.querySelectorAll(".cell_output"))
      if (/\d of \d+ right/.test(output.textContent)
          && !/smoke preset|published weights/.test(output.textContent))
        problems.push(`smoke numbers without their mark: ${output.textContent.slice(0, 40)}`);
  return problems;
}"""

# Text against what is behind it: contrast by WCAG 2.1, 4.5 (3 for large letters); letters by size.
TEXT = r"""() => {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const known = new Map();
  const rgba = (color) => {
    if (!known.has(color)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = color;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      known.set(color, [r, g, b, a / 255]);
    }
    return known.get(color);
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const style = getComputedStyle(element);
    if (style.backgroundImage !== "none") return null;
    const color = rgba(style.backgroundColor);
    if (color[3] === 1) return color.slice(0, 3);
    const below = behind(element.parentElement);
    return below && over(color, below);
  };
  const luminance = (color) => color.map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const problems = new Map();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = texts.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, noscript, [aria-hidden=true]"))
      continue;
    if (!element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const below = behind(element);
    const place = `${element.localName}${element.className ? "." + element.className : ""}`;
    const say = (what) => {
      const key = `${what} (${place})`;
      if (!problems.has(key)) problems.set(key, node.data.trim().slice(0, 40));
    };
    if (size < 11 && !element.closest("math, sub, sup")) say(`letters of ${size.toFixed(1)} px`);
    if (!below) continue;
    const ink = [...rgba(style.color)];
    for (let e = element; e; e = e.parentElement) ink[3] *= getComputedStyle(e).opacity;
    const [dark, light] = [luminance(over(ink, below)), luminance(below)].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.005) say(`contrast ${ratio.toFixed(2)}`);
  }
  return [...problems].map(([what, text]) => `${what}: ${text}`);
}"""


@pytest.fixture(scope="module")
def context():
    """One browser session for all pages, without a network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    with playwright.sync_playwright() as p:
        with p.chromium.launch(executable_path=browser, args=["--no-sandbox"]) as chromium:
            yield chromium.new_context(offline=True)


@pytest.fixture(scope="module")
def site():
    """The folder of the built book, or a skip."""
    if not SITE:
        pytest.skip("FRLIB_SITE names no built book; `make site` builds it and looks at every page")
    assert (Path(SITE) / "index.html").is_file(), f"no built book in {SITE}"
    return Path(SITE).resolve()


def opened(context, site, address):
    """A tab at `address`, and the list that its errors and its requests out of `site` go to."""
    tab, problems = context.new_page(), []
    inside = (site.as_uri() + "/", "data:", "blob:", "about:")
    tab.on("request", lambda request: request.url.startswith(inside) or problems.append(
        f"request leaves the folder: {request.url}"))
    tab.on("requestfailed", lambda request: problems.append(f"request failed: {request.url}"))
    tab.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    tab.on("console", lambda message: message.type == "error" and problems.append(
        f"console error: {message.text}"))
    tab.goto(address)
    return tab, problems


def survey(context, site, page):
    """(problems, anchors, links) of one page: at every width, in both schemes, and on paper."""
    redirect = REDIRECT.search(page.read_text(encoding="utf-8"))
    if redirect:
        return [], [], [page.resolve().parent.as_uri() + "/" + redirect[1]]
    tab, problems = opened(context, site, page.as_uri())
    tab.add_style_tag(content="* { transition: none !important; animation: none !important; }")
    content = tab.evaluate(CONTENT)
    problems += content["problems"]
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        problems += [f"{width} px: {problem}" for look in (LAYOUT, CUES)
                     for problem in tab.evaluate(look)]
    for scheme in SCHEMES:
        tab.emulate_media(color_scheme=scheme)
        problems += [f"{scheme}: {problem}" for problem in tab.evaluate(TEXT)]
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": PAPER, "height": 900})
    problems += [f"paper: {problem}" for problem in tab.evaluate(LAYOUT)]
    tab.close()
    return problems, content["anchors"], content["links"]


def broken(link, site, anchors):
    """What is wrong with a link (an absolute address), or None; `anchors`: {file: its anchors}."""
    address, anchor = urldefrag(link)
    if urlsplit(address).scheme != "file":
        return None  # a link to the web is not a request
    path = Path(unquote(urlsplit(address).path))
    if not path.is_relative_to(site):
        return f"link leaves the folder: {link}"
    if not path.is_file():
        return f"link to no file: {path.relative_to(site)}"
    if anchor and path in anchors and unquote(anchor) not in anchors[path]:
        return f"link to no anchor: {path.relative_to(site)}#{unquote(anchor)}"
    return None


def check(context, site):
    """{page: problems} for every page below `site`, a folder as an absolute path."""
    pages = [page for page in sorted(site.rglob("*.html"))
             if not {"_static", "_sources"} & set(page.relative_to(site).parts)]
    found = {page: survey(context, site, page) for page in pages}
    anchors = {page: anchors for page, (_, anchors, _) in found.items()}
    return {str(page.relative_to(site)): problems + sorted(
                filter(None, {broken(link, site, anchors) for link in links}))
            for page, (problems, _, links) in found.items()}


def test_every_page_works_anywhere(context, site):
    pages = check(context, site)
    assert len(pages) > 10, f"hardly a page in {site}"
    faults = [f"{page}: {problem}" for page, problems in pages.items() for problem in problems]
    assert not faults, "\n" + "\n".join(faults)


def test_search_works_without_a_server(context, site):
    tab, problems = opened(context, site, (site / "search.html").as_uri() + "?q=autoattack")
    tab.wait_for_selector("#search-results li a")
    tab.close()
    assert not problems


def test_a_chapter_shows_the_parameters_it_was_run_with(context, site):
    for page in sorted((site / "book" / "executed").glob("*.html")):
        tab, _ = opened(context, site, page.as_uri())
        assert "preset = " in tab.locator(".tag_injected-parameters").text_content(), page.name
        tab.close()


def test_terms_and_citations_tell_what_they_are_beside_the_pointer(site):
    links = re.findall(r'<a class="reference internal" href="[^"]*#(?:term-|id)[^>]*>', "".join(
        page.read_text(encoding="utf-8") for page in site.rglob("*.html")))
    assert len(links) > 100
    assert not [link for link in links if 'title="' not in link]


def test_the_first_screen_holds_the_message_and_its_scale(context, site):
    tab, _ = opened(context, site, (site / "book" / "intro.html").as_uri())
    tab.set_viewport_size({"width": 1400, "height": 900})
    line = tab.locator("p", has_text=re.compile("^Trained for .* test images")).bounding_box()
    tab.close()
    assert line["y"] + line["height"] <= 900


def test_launch_buttons_open_the_sources(site):
    """Colab and Binder get notebooks/NN_topic.ipynb at the one address of _config.yml, if any."""
    repository = yaml.safe_load((REPO / "_config.yml").read_text()).get("repository")
    assert not any("your-name" in page.read_text(encoding="utf-8") for page in site.rglob("*.html"))
    pages = sorted((site / "book" / "executed").glob("*.html"))
    assert pages
    for page in pages:
        place, text = f"notebooks/{page.stem}.ipynb", page.read_text(encoding="utf-8")
        assert (REPO / place).is_file()
        if not repository:
            assert "colab.research" not in text and "mybinder" not in text
            continue
        address = repository["url"].removeprefix("https://github.com/")
        assert (f"https://colab.research.google.com/github/{address}/blob/"
                f"{repository['branch']}/{place}") in text
        assert (f"https://mybinder.org/v2/gh/{address}/{repository['branch']}"
                f"?urlpath=lab/tree/{place}") in text


# --- the check itself: each fault on a page of its own, beside a page without any

DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
WIDE = '<div style="width: 3000px">wide</div>'
BOX = '<div class="bd-article" style="overflow-x: auto">'
FAULTS = {
    "script": ('<script src="https://example.org/x.js"></script>', "request leaves the folder: h"),
    "picture": ('<img alt="a dot" src="gone.png">', "request failed: "),
    "outside": ('<a href="../../x.html">x</a>', "link leaves the folder: "),
    "file": ('<a href="gone.html">x</a>', "link to no file: gone.html"),
    "anchor": ('<a href="#nowhere">x</a>', "link to no anchor: anchor.html#nowhere"),
    "far-anchor": ('<a href="good.html#nowhere">x</a>', "link to no anchor: good.html#nowhere"),
    "no-alt": (f'<img src="{DOT}">', "image without alt text: "),
    "name-as-alt": (f'<img alt="a/figure.png" src="{DOT}">', "image without alt text: "),
    "formula": (r'<span class="math">\frac{1}{2}</span>', "equation not rendered: "),
    "dollars": (r"<p>$$\lambda$$</p>", "equation not rendered: "),
    "wide": (WIDE, "390 px: page scrolls sideways: "),
    "wide-laptop": (WIDE, "1400 px: wider than the window: "),
    "paper": ("<style>@media print { p { width: 3000px } }</style><p>x</p>", "paper: page scrolls"),
    "cut": (f'<div style="overflow: hidden">{WIDE}</div>', "390 px: wider than the window: "),
    "error": ("<script>console.error('oh')</script>", "console error: oh"),
    "raised": ("<script>throw new Error('oh')</script>", "script error: "),
    "pale": ('<p style="color: #999; background: #fff">x</p>', "light: contrast 2.85 "),
    "dark": ("<style>@media (prefers-color-scheme: dark) { p { background: #000; color: #333 } }"
             "</style><p>x</p>", "dark: contrast 1.66 "),
    "unseen": (f'{BOX}<table><tr><td>{WIDE}</table></div>', "390 px: table goes on unseen: "),
    "verdict": (f'{BOX}<table class="claims"><tr><td>{WIDE}</table></div>',
                "390 px: verdicts are off the screen: "),
    "head": ('<div class="bd-article"><table id="t"><thead><tr><th></thead></table></div>',
             "390 px: column without a head: t"),
    "figure": (f'{BOX}<figure style="width: 9px"><img alt="A dot" width="99" src="{DOT}">',
               "390 px: figure wider than its place: A dot"),
    "unmarked": ("<pre class='tag_injected-parameters'>preset = \"smoke\"</pre>"
                 "<div class='cell_output'><pre>at, clean: 3 of 8 right</pre></div>",
                 "390 px: smoke numbers without their mark: at, clean"),
    "tiny": ('<p style="font-size: 6px">x</p>', "light: letters of 6.0 px "),
}
GOOD = f"""<p id="here">Text, <a href="#here">a link</a>, <a href="https://example.org">the web</a>.
<span class="math"><math><mi>x</mi></math></span> <code>\\frac</code> <img alt="A dot" src="{DOT}">
<div style="overflow-x: auto">{WIDE}</div>"""


@pytest.fixture(scope="module")
def faults(context, tmp_path_factory):
    """What the check says of a folder with a good page and one page for each fault."""
    folder = tmp_path_factory.mktemp("site").resolve()
    pages = {"good": GOOD} | {name: body for name, (body, _) in FAULTS.items()}
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
            f'<body><main>{body}</main></body></html>', encoding="utf-8")
    (folder / "index.html").write_text(
        '<meta http-equiv="Refresh" content="0; url=gone/intro.html" />', encoding="utf-8")
    return check(context, folder)


def test_a_good_page_has_no_problem(faults):
    assert faults["good.html"] == []


def test_a_redirect_to_nowhere_is_found(faults):
    assert faults["index.html"] == ["link to no file: gone/intro.html"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(faults, name):
    expected = FAULTS[name][1]
    assert any(problem.startswith(expected) for problem in faults[f"{name}.html"]), faults
