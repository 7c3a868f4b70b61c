"""One image under one attack: its numbers, its figure, the book's frames, the live controls."""

import base64
import html.parser
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
import torch
from PIL import Image
from torch import nn

from frlib import data, train
from frlib.publish import one_image
from frlib.run import config

REPO = Path(__file__).resolve().parents[1]
NOTEBOOK = REPO / "notebooks" / "07_explore.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"
quiet = pytest.mark.filterwarnings("ignore")  # papermill and Jupyter warn of their own future
IMAGE = torch.tensor([[[0.5, 0.4], [0.3, 0.6]]])


def test_look_at_a_linear_model_gives_the_numbers_worked_out_by_hand(tiny):
    """FGSM moves every pixel by eps with the sign of dw: the margin by eps * |dw|_1 = 8.5 eps."""
    found = one_image.look(tiny, IMAGE, 0, attack="FGSM", eps=0.1, bandwidth=1)
    moved = IMAGE + 0.1 * tiny.dw.view(1, 2, 2).sign()
    np.testing.assert_allclose(found["images"]["attacked"], moved, atol=1e-6)
    np.testing.assert_allclose(found["images"]["filtered"], moved.mean().expand(1, 2, 2), atol=1e-6)
    gap = {name: logits[1] - logits[0] for name, logits in found["logits"].items()}
    assert gap["attacked"] - gap["clean"] == pytest.approx(0.85, abs=1e-5)
    with torch.no_grad():
        logits = tiny(IMAGE[None])[0]
    np.testing.assert_allclose(found["logits"]["clean"], logits, atol=1e-6)
    assert found["classes"]["clean"] == int(logits.argmax())
    assert found["shares"]["clean"] == pytest.approx(float(logits.softmax(0).max()), abs=1e-6)


@pytest.mark.parametrize("attack", one_image.ATTACKS)
def test_every_attack_stays_in_the_ball_and_repeats(tiny, attack):
    setting = {"attack": attack, "eps": 0.05, "bandwidth": 2}
    once, again = (one_image.look(tiny, IMAGE, 1, **setting) for _ in range(2))
    moved = np.abs(once["images"]["attacked"] - once["images"]["clean"])
    assert moved.max() == pytest.approx(0 if attack == "none" else 0.05, abs=1e-6)
    for stage in one_image.STAGES:
        np.testing.assert_array_equal(once["images"][stage], again["images"][stage])
    np.testing.assert_allclose(once["images"]["filtered"], once["images"]["attacked"], atol=1e-6)


@pytest.mark.parametrize("change, message", [
    ({"attack": "pgd"}, "attack = 'pgd': choose one of none, FGSM, PGD-20, C&W"),
    ({"image": IMAGE[None]}, "one image"),
    ({"label": 2}, "label = 2: must be a class index from 0 to 1"),
    ({"eps": 8}, "8/255"),
    ({"bandwidth": 3}, "1..2"),
])
def test_bad_input_is_named(tiny, change, message):
    given = {"image": IMAGE, "label": 0, "attack": "FGSM", "eps": 0.1, "bandwidth": 1, **change}
    with pytest.raises(ValueError) as caught:
        one_image.look(tiny, given.pop("image"), given.pop("label"), **given)
    assert message in str(caught.value)


def bars(figure):
    """Lengths by stage, from the last axes, and the names beside them."""
    ax = figure.axes[-1]
    heights = {c.get_label(): [bar.get_width() for bar in c.patches] for c in ax.containers}
    return heights, [text.get_text() for text in ax.get_yticklabels()]


def test_panel_draws_these_numbers(tiny):
    setting = {"attack": "FGSM", "eps": 0.5, "bandwidth": 1}
    found = one_image.look(tiny, IMAGE, 0, **setting)
    assert found["classes"] == {"clean": 0, "attacked": 1, "filtered": found["classes"]["filtered"]}
    figure = one_image.draw(found, ("cat", "dog"), mark="not comparable")
    heights, names = bars(figure)
    for stage in one_image.STAGES:
        np.testing.assert_allclose(heights[stage], found["logits"][stage], atol=1e-6)
    assert names == ["cat (true)", "dog"]
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[0].startswith("clean\n✓ cat") and titles[1].startswith("attacked\n✗ dog")
    assert "not comparable" in [text.get_text() for text in figure.texts]
    assert "FGSM at eps 127.5/255" in figure.get_suptitle()
    shares, _ = bars(one_image.draw(found, ("cat", "dog"), columns=("attacked",), shares=True))
    assert list(shares) == ["attacked"] and sum(shares["attacked"]) == pytest.approx(100)


class Wide(nn.Module):
    """Logits of 32 x 32 images under fixed random weights, a row per class."""

    def __init__(self, classes):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(classes, 3 * 32 * 32, generator=generator) / 20

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


def noise(count=1):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_of_a_hundred_classes_the_highest_and_the_true_one_are_drawn():
    model = Wide(100)
    lowest = int(model(noise())[0].argmin())
    found = one_image.look(model, noise()[0], lowest, attack="none", eps=0.1, bandwidth=32)
    figure = one_image.draw(found, [str(c) for c in range(100)])
    heights, names = bars(figure)
    highest = int(model(noise())[0].argmax())
    assert len(names) == one_image.MOST_CLASSES
    assert f"{lowest} (true)" in names and str(highest) in names
    assert max(heights["clean"]) == pytest.approx(float(model(noise()).max()), abs=1e-5)


def test_words_come_from_the_numbers(tiny):
    found = one_image.look(tiny, IMAGE, 0, attack="FGSM", eps=128 / 255, bandwidth=2)
    words = one_image.sentence(found, ("cat", "dog"), one_image.PANEL[:3])
    assert "true class is cat" in words and "attacked, it is read as dog" in words
    assert "filter" not in words and "filter" in one_image.sentence(found, ("cat", "dog"))
    flags = {"at": torch.tensor([[True, True, False], [True, False, False]])}
    assert one_image.counted(flags, "a / b") == "Images read right, of 3, a / b: at 2 / 1."


def test_another_filter_leaves_the_attack_as_it_is(tiny):
    setting = {"attack": "PGD-20", "eps": 0.1}
    found = one_image.look(tiny, IMAGE, 0, bandwidth=2, **setting)
    other = one_image.behind(tiny, found, 1)
    expected = one_image.look(tiny, IMAGE, 0, bandwidth=1, **setting)
    assert other["bandwidth"] == 1 and other["classes"] == expected["classes"]
    for stage in one_image.STAGES:
        np.testing.assert_array_equal(other["images"][stage], expected["images"][stage])


@pytest.mark.parametrize(("fates", "expected"), [
    ({"natural": "-xxx", "at": "xx--"}, 1),  # at keeps most of those it reads right: -x, so not 0
    ({"natural": "xxxx", "at": "---x"}, 0),
    ({"natural": ".xxx", "at": "-.xx"}, 2),  # . is wrong without an attack
    ({"natural": "..xx", "at": "--.."}, 0)])  # none that all read right
def test_the_image_shows_what_the_counts_say(monkeypatch, fates, expected):
    """fates: by image, lost to the attack (x), kept (-)."""
    flags = {name: [torch.tensor([mark != "." for mark in row]),
                    torch.tensor([mark == "-" for mark in row])] for name, row in fates.items()}
    monkeypatch.setattr(one_image, "look", lambda model, image, label, **setting: {
        "classes": {"clean": label, "attacked": label if fates[model][int(image)] == "-" else -1}})
    x = y = torch.arange(4)
    models = {name: name for name in fates}
    assert one_image.telling(models, x, y, flags) == expected
    other = {name: [True, mark == "-"] for name, row in fates.items() for mark in row[-1]}
    found = one_image.telling(models, x, y, flags, wanted=other)
    assert all(row[found] == row[-1] for row in fates.values()) or found == expected == 0


def test_the_spectrum_of_a_perturbation_has_a_scale_of_its_own(tiny):
    found = one_image.look(tiny, IMAGE, 0, attack="FGSM", eps=0.1, bandwidth=1)
    figure = one_image.draw(found, ("cat", "dog"), columns=one_image.PANEL[:3])
    clean, attacked, added = (ax.get_images()[0] for ax in figure.axes[1:6:2])
    assert clean.get_clim() == attacked.get_clim()
    assert added.get_clim()[1] == pytest.approx(added.get_array().max())
    assert {ax.get_xlabel() for ax in figure.axes} >= {"amplitude (log scale)",
                                                       "perturbation's"}
    figure = one_image.draw(found, ("cat", "dog"), strongest=7.0)
    assert figure.axes[5].get_images()[0].get_clim()[1] == 7
    plain = one_image.draw(found, ("cat", "dog"), columns=one_image.STAGES)
    assert "of the perturbation" not in {ax.get_xlabel() for ax in plain.axes}


def test_names_of_classes_are_no_markup(tiny):
    classes = ("$\\frac$ *cat*", "do_g_ <b>")
    found = one_image.look(tiny, IMAGE, 0, attack="none", eps=0.1, bandwidth=2)
    title = one_image.draw(found, classes).axes[0].get_title()
    assert "$\\frac$ *cat*" in title
    assert one_image.img(found, classes)  # it draws: read as a formula, the name would be an error


def test_a_picture_keeps_its_colours(tiny):
    found = one_image.look(tiny, IMAGE, 0, attack="none", eps=0.1, bandwidth=2)
    ramp = np.linspace(0, 1, 32, dtype="float32")  # 1,024 colours, of which white is one
    found["images"]["clean"] = np.stack([np.maximum.outer(ramp, ramp), *np.meshgrid(ramp, ramp)])
    for stage in ("attacked", "filtered"):
        found["images"][stage] = found["images"]["clean"]
    source = re.search('base64,([^"]+)', one_image.img(found, ("cat", "dog")))[1]
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB"))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 1024


class Reader(html.parser.HTMLParser):
    """Every start tag with its attributes; a ValueError where tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        self.close()
        if self.open:
            raise ValueError(f"never closed: {self.open}")

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise ValueError(f"</{tag}> closes nothing")


EPS = (0, 4, 8, 16, 24, 32)


@pytest.fixture(scope="module")
def book_frames():
    """The frames of two models and six eps, on an image of noise, the hardest to compress."""
    model, image = Wide(10), noise()[0]
    steps = {grey: one_image.look(model, image, 0, attack="FGSM", eps=grey / 255, bandwidth=16)
             for grey in EPS}
    return one_image.frames({"<natural>": steps, "at": steps}, [f"class {c}" for c in range(10)],
                          start=8, mark="smoke")


def test_frames_are_sound_html_of_their_own(book_frames):
    tags = Reader(book_frames).tags
    pictures = [attrs for tag, attrs in tags if tag == "img"]
    shown = [EPS.index(8), len(EPS) + EPS.index(8)]  # one of each model, side by side
    assert [i for i, attrs in enumerate(pictures) if "hidden" not in attrs] == shown
    for attrs, (name, grey) in zip(pictures, [(n, g) for n in ("<natural>", "at") for g in EPS],
                                   strict=True):
        assert f"Model {name}. " in attrs["alt"] and f"eps {grey}/255" in attrs["alt"]
        assert attrs["src"].startswith("data:image/png;base64,")
    slider = next(attrs for tag, attrs in tags if tag == "input")
    assert json.loads(slider["data-steps"]) == list(EPS) and slider["value"] == "2"
    assert {tag for tag, _ in tags} == {"figure", "div", "style", "p", "label", "input", "output",
                                        "img", "figcaption", "script"}
    values = [value or "" for _, attrs in tags for value in attrs.values()]
    assert not any("//" in value for value in values if not value.startswith("data:"))
    assert "//" not in one_image.SCRIPT and "fetch" not in one_image.SCRIPT
    assert len(book_frames) < 2_000_000


def test_frames_refuse_what_they_cannot_show(tiny):
    found = {grey: one_image.look(tiny, IMAGE, 0, attack="FGSM", eps=grey / 255, bandwidth=2)
             for grey in (0, 8)}
    for given, start, message in (({}, 0, "at least one model"), ({"at": found}, 4, "start = 4"),
                                  ({"at": found, "b": {0: found[0]}}, 0, "the same steps")):
        with pytest.raises(ValueError, match=message):
            one_image.frames(given, ("cat", "dog"), start=start)


def test_controls_draw_anew():
    split = data.Split((255 * noise(3)).byte(), torch.tensor([0, 1, 2]), ("a", "b", "c"))
    asked = []
    box = one_image.controls(lambda name: asked.append(name) or Wide(3), ["natural", "at"], split,
                           eps=8 / 255, attack="FGSM")
    model, number, attack, eps, bandwidth, picture = box.children
    assert (eps.value, eps.max, number.max, bandwidth.value, bandwidth.max) == (8, 16, 2, 16, 32)
    seen = {picture.value}
    for control, value in ((eps, 12), (bandwidth, 4), (number, 2), (attack, "none"), (model, "at")):
        control.value = value
        assert picture.value not in seen, f"{control.description} changes nothing"
        seen.add(picture.value)
    assert asked[0] == "natural" and asked[-1] == "at"


def test_live_only_below_a_server(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert not one_image.live()
    monkeypatch.setenv("JPY_SESSION_NAME", "07_explore.ipynb")
    assert one_image.live()


# --- the notebook, with two trainings of one short epoch

TINY = {"epochs": 1, "train_size": 128, "curve_images": 10, "steps": 1, "curve_steps": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A runs folder with a natural and an adversarial training."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("natural", "at"):
        train.train(config.load("smoke", method=method, runs_dir=str(folder), **TINY))
    return folder


def executed(tmp_path, monkeypatch, **parameters):
    """The outputs of the notebook under papermill: (their MIME types, their text)."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = papermill.execute_notebook(NOTEBOOK, tmp_path / "out.ipynb", parameters,
                                          progress_bar=False)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    text = "\n".join(str(part) for output in outputs
                     for part in (output.get("text", ""), *output.get("data", {}).values()))
    return kinds, text


@quiet
def test_the_page_holds_frames_and_no_widget(runs, tmp_path, monkeypatch):
    kinds, text = executed(tmp_path, monkeypatch, runs_dir=str(runs), settings=TINY)
    assert WIDGET not in kinds and "VBox" not in text and "interactive(" not in text
    assert "networks: own runs of preset smoke; images: test images of digits" in text
    assert text.count("<img ") == 12 and "smoke preset" in text
    assert re.search(r"Images read right, of 40, clean / under PGD-20 at eps 16/255: "
                     r"natural \d+ / ", text)


@quiet
def test_without_a_run_the_page_says_what_to_run(tmp_path, monkeypatch):
    kinds, text = executed(tmp_path, monkeypatch, runs_dir=str(tmp_path / "none"))
    assert "none yet: run notebooks 01 and 02 first" in text and "<img" not in text
    assert WIDGET not in kinds and not (tmp_path / "none").exists()


# --- in a browser

PATIENCE = 120  # seconds that one wait may take, on a crowded machine

@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright, or a skip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install it")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium on the path: apt install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"],
                                        timeout=1000 * PATIENCE)
        yield opened
        opened.close()


def visible(page):
    """The alt texts of the frames that can be seen."""
    return [picture.get_attribute("alt") for picture in page.locator(".frames img").all()
            if picture.is_visible()]


@quiet
def test_frames_move_with_the_keyboard_and_offline(book_frames, browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(f'<!doctype html><meta charset="utf-8">{book_frames}')
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        page.goto(path.as_uri())

        def both_at(eps):
            seen = visible(page)
            return [alt.split(".")[0] for alt in seen] == ["Model <natural>", "Model at"] \
                and all(f"eps {eps}/255" in alt for alt in seen)

        assert both_at(8)
        page.keyboard.press("Tab")  # the slider
        page.keyboard.press("ArrowRight")
        assert both_at(16) and page.locator("output").inner_text() == "16/255"
        page.keyboard.press("Home")
        assert both_at(0)
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(path.as_uri())
        assert "eps 8/255" in visible(page)[0] and len(visible(page)) == 2
        assert not page.locator("input").is_visible(), "a slider that does nothing"


@pytest.fixture
def jupyter(runs, tmp_path):
    """The address of a JupyterLab whose one notebook reads the runs above."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    cell.source += f"\nruns_dir = {str(runs)!r}\nsettings = {TINY!r}\nframed = ['natural']"
    nbformat.write(notebook, tmp_path / "explore.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {name: str(tmp_path / name.lower()) for name in (
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
        "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
         f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
         f"--ServerApp.root_dir={tmp_path}"],
        env={**os.environ, **places, "OMP_NUM_THREADS": "1"}, cwd=tmp_path,
        stdout=(tmp_path / "jupyter.log").open("w"), stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{address}/api", timeout=2).close()
                break
            except OSError:
                log = (tmp_path / "jupyter.log").read_text()
                assert server.poll() is None and time.monotonic() < deadline, log
                time.sleep(0.3)
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE)  # it stops its kernel first


@pytest.mark.slow
@quiet
def test_in_jupyterlab_a_slider_changes_the_figure(jupyter, browser):
    with browser.new_context(viewport={"width": 1200, "height": 1400}) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"{jupyter}/doc/tree/explore.ipynb")
        page.get_by_text("(ipykernel) | Idle").wait_for()  # before, Run All would run nothing
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        figure = page.locator(".widget-html img")
        figure.wait_for()
        before = figure.get_attribute("alt")
        assert "PGD-20 at eps 16/255" in before
        handle = page.locator(".widget-slider", has_text="eps (of 255)").locator(".noUi-handle")
        handle.focus()
        page.keyboard.press("ArrowRight")
        page.locator('.widget-html img[alt*="PGD-20 at eps 17/255"]').wait_for()
        page.locator(".frames input").fill("4")  # JupyterLab keeps the arrow keys for itself
        assert page.locator(".frames output").inner_text() == "24/255"
