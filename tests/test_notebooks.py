"""The notebooks as sources: literals in their parameters, no outputs, bad parameters stopped."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

REPO = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
quiet = pytest.mark.filterwarnings("ignore")  # papermill and Jupyter warn of their own future


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_source_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    names = []
    for node in ast.parse(tagged[0].source).body:
        ast.literal_eval(node.value)  # a derived value would go stale under papermill
        names += [target.id for target in node.targets]
    assert names[:6] == ["preset", "settings", "seed", "data_root", "runs_dir", "show"]
    assert all("#" in line for line in tagged[0].source.splitlines())
    assert any("assert " in cell.source for cell in code), "what must hold is asserted inside"


def first_cells():
    """The text of each notebook's first code cell, which finds or fetches the library."""
    notebooks = [nbformat.read(path, as_version=4) for path in NOTEBOOKS]
    return [next(cell for cell in notebook.cells if cell.cell_type == "code").source
            for notebook in notebooks]


@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_the_first_cell_finds_the_library_above_the_notebook(folder):
    """In a Python that has no packages at all, from where Jupyter and papermill start kernels."""
    cell, = set(first_cells())
    ran = subprocess.run([sys.executable, "-I", "-S", "-c",
                          f"{cell}\nimport frlib; print(frlib.__file__)"],
                         cwd=REPO / folder, text=True, capture_output=True, check=True)
    assert Path(ran.stdout.strip()) == REPO / "frlib" / "__init__.py"


def test_the_first_cell_fetches_the_library_where_there_is_none(tmp_path, monkeypatch):
    """With the kernel's own pip, our pins and _config.yml's address, into a folder of its own."""
    commands = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda words, check: commands.append(words))
    namespace = {}
    exec(first_cells()[0], namespace)
    (*pip, pin), (*git, address, folder) = commands
    assert pip[:4] == [sys.executable, "-m", "pip", "install"] and git[:2] == ["git", "clone"]
    assert re.search(rf"^{pin}\b", (REPO / "requirements.txt").read_text(), re.M)
    assert f" url: {address}\n" in (REPO / "_config.yml").read_text()
    assert folder.parent == tmp_path and not folder.exists() and sys.path[0] == str(folder)
    assert not any(isinstance(value, (str, int, list, tuple, dict)) for name, value in
                   namespace.items() if not name.startswith("_")), "taken for a parameter"


def assigned(source: str) -> set[str]:
    """The names that a cell leaves behind: of any statement but in functions and comprehensions."""
    inner = (ast.FunctionDef, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp, ast.Lambda)
    names, todo = set(), [ast.parse(re.sub("^( *)!.*", r"\1pass", source, flags=re.M))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        todo += [n for n in ast.iter_child_nodes(node) if not isinstance(n, inner)]
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_run_all_a_second_time_reads_the_parameters_again(path, tmp_path):
    """Whatever the cells leave behind; and a misspelt knob is seen then as it is at first."""
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    at = next(i for i, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", []))
    parameters, asks, namespace = code[at].source, code[at + 1].source, {"In": [""]}

    def run(*cells):
        for cell in cells:
            namespace["In"].append(cell)
            exec(cell, namespace)
        return namespace["bases" if "bases = " in asks else "base"]

    parameters += f"\nruns_dir = {str(tmp_path)!r}"
    first = run(parameters, asks)
    for cell in [*code[:at], *code[at + 2:]]:
        namespace["In"].append(cell.source)
        names = assigned(cell.source)
        assert not names & {"preset", "runs", "steps", "epochs", "method", "seed"}, names
        namespace |= dict.fromkeys(names, "left")
    assert run(parameters, asks) == run(parameters, asks) == first
    with pytest.raises(ValueError, match="unknown parameter 'epocs'"):
        run(f"{parameters}\nepocs = 3", asks)


@quiet
def test_a_bad_parameter_stops_papermill_before_any_work(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean 'epochs'"):
        papermill.execute_notebook(REPO / "notebooks" / "02_train_fr.ipynb", tmp_path / "out.ipynb",
                                   {"epoch": 3, "runs_dir": str(tmp_path / "runs")},
                                   progress_bar=False)
    assert not (tmp_path / "runs").exists()


@quiet
def test_a_preset_file_goes_in_whole_and_knobs_on_top(tmp_path, caplog):
    """papermill NOTEBOOK OUT -f PRESET.yaml -p seed 1 -p epochs 1: no unknown name, right label."""
    content = yaml.safe_load((REPO / "notebooks" / "presets" / "smoke.yaml").read_text())
    papermill.execute_notebook(REPO / "notebooks" / "02_train_fr.ipynb", tmp_path / "out.ipynb",
                               {**content, "seed": 1, "epochs": 1,
                                "runs_dir": str(tmp_path / "runs")},
                               progress_bar=False)
    assert "unknown parameter" not in caplog.text
    run = tmp_path / "runs" / "smoke" / "at-fr@epochs=1" / "seed1"
    assert (run / "finished.json").is_file()


def settled(name, **turned):
    """The names that a notebook has after its parameters, these turned, and their check."""
    code = [cell.source for cell in nbformat.read(next(REPO.glob(f"notebooks/{name}*.ipynb")),
                                                  as_version=4).cells if cell.cell_type == "code"]
    parameters, check = (next(source for source in code if text in source)
                         for text in ("preset = ", "config.from_parameters("))
    namespace = {}
    exec(parameters, namespace)
    namespace |= turned
    exec(check, namespace)
    return namespace


@pytest.mark.parametrize(("name", "knob", "value", "message"), [
    ("02", "eps", 8, "for 8 of 255 grey levels write '8/255'"),
    ("02", "preset", "nano", "unknown preset 'nano'"),
    ("02", "settings", 3, "settings = 3: must be a dict"),
    ("01", "methods", None, "methods = None: must be a list of some of natural, at"),
    ("01", "methods", ["at-swa"], "methods = ['at-swa']: must be a list of some of natural"),
    ("03", "methods", ["natural"], "methods = ['natural']: must be a list of some of at, at-fr"),
    ("01", "methods", [], []),
    ("06", "methods", "sat", "methods = 'sat': must be a list of some of"),
    ("04", "checkpoints", {"mine:resnet8-16": "no.pt"}, "no checkpoint at"),
    ("05", "bandwidths", [0], "bandwidths = [0]: must be a list of whole numbers from 1 to 32"),
    ("07", "framed", None, "framed = None: must be a list of texts"),
    ("08", "radii", 5, "radii = 5: must be a list of two rising numbers"),
    ("08", "norm", "x", "norm = 'x': must be a number"),
    ("08", "stride", 0, "stride = 0: must be a whole number from 1"),
    ("10", "images", 0, "images = 0: must be a whole number from 1"),
    ("01", "methods", "mart", ["mart"]), ("07", "framed", "at", ["at"])])
def test_a_parameter_of_a_notebook_is_checked_before_any_work(tmp_path, name, knob, value, message):
    turned = {"runs_dir": str(tmp_path), knob: value}
    if isinstance(message, list):  # one by itself makes a list of one
        assert settled(name, **turned)[knob] == message
    else:
        with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
            settled(name, **turned)


@pytest.mark.parametrize("name", ["01", "02", "03", "04", "06", "10"])
def test_a_page_without_any_result_draws_nothing_and_says_so(tmp_path, name):
    namespace = settled(name, runs_dir=str(tmp_path), show="paper")
    exec("from IPython.display import HTML\nfrom frlib.publish import book_tables, claims_tables\n"
         "from frlib.publish import notebook_views as views", namespace)
    path, drawn = next(REPO.glob(f"notebooks/{name}*.ipynb")), []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and re.search(r"plots\.|views\.shown\(", cell.source):
            *lines, last = ast.parse(cell.source).body
            exec(compile(ast.Module(lines, []), name, "exec"), namespace)
            drawn += [eval(ast.unparse(last), namespace)] if "plots." in cell.source else []
    assert drawn and set(drawn) == {"not run"}
