"""The notebooks as sources: literals in their parameters, no outputs, bad parameters stopped."""

import ast
import re
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
@pytest.mark.parametrize("name, value, message", [
    ("epoch", 3, "unknown parameter 'epoch' (did you mean 'epochs'?)"),
    ("eps", 8, "8/255"),
    ("preset", "nano", "unknown preset 'nano'"),
    ("settings", 3, "settings = 3: must be a dict"),
])
def test_bad_parameter_stops_papermill_before_any_work(tmp_path, name, value, message):
    with pytest.raises(papermill.PapermillExecutionError, match="Error") as caught:
        papermill.execute_notebook(REPO / "notebooks" / "02_train_fr.ipynb", tmp_path / "out.ipynb",
                                   {name: value, "runs_dir": str(tmp_path / "runs")},
                                   progress_bar=False)
    assert message in str(caught.value) and not (tmp_path / "runs").exists()


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


@pytest.mark.parametrize(("name", "knob", "value"), [
    ("05_spectral_figures", "bandwidths", [32, 16]), ("05_spectral_figures", "judge_images", 20),
    ("08_spectral_lens", "images", 5), ("08_spectral_lens", "settings", {"judge_images": 20})])
def test_a_turned_knob_is_not_stored_as_the_presets_result(tmp_path, name, knob, value):
    notebook = nbformat.read(REPO / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    stores, = (source for source in code if "results.write_json(" in source)
    stores = stores[stores.rindex("\nif "):]
    assert stores.startswith("\nif configs and as_preset:") and "write_json" in stores
    parameters, settings = (next(source for source in code if source.startswith(start))
                            for start in ("preset = ", "from frlib import config"))
    for turned, stored in (({}, True), ({knob: value}, False)):
        namespace = {}
        exec(parameters, namespace)
        namespace |= {"runs_dir": str(tmp_path), **turned}
        exec(settings, namespace)
        assert namespace["as_preset"] == stored
