"""The notebooks as sources: literals in their parameters, no outputs, bad parameters stopped."""

import ast
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
