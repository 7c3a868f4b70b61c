"""A config is right or it says which key is wrong and what it may be."""

import dataclasses
import math
import re

import pytest

from frlib.__main__ import main
from frlib.run import config, labels, places, presets
from frlib.run.config import Config, from_parameters, load, parse_label


def preset_file(folder, settings, name="own"):
    path = folder / f"{name}.yaml"
    path.write_text(f"preset: {name}\nsettings: {settings}\n")
    return path


# --- values


def test_the_defaults_are_the_papers():
    c = Config()
    assert (c.eps, c.step_size, c.steps, c.fr_lambda) == (8 / 255, 2 / 255, 10, 0.1)
    assert (c.epochs, c.lr, c.batch_size, c.momentum, c.weight_decay) == (100, 0.1, 128, 0.9, 5e-4)
    assert c.milestones == (0.75, 0.9) and c.swa_start == 0.75 and c.model == "wrn-34-10"
    with pytest.raises(dataclasses.FrozenInstanceError):
        c.eps = 0.1


def test_a_change_beats_the_preset_and_the_preset_beats_the_default(own_root):
    path = preset_file(own_root, "{epochs: 7, lr: 0.3}", "order")
    c = load("order.yaml", epochs=9)
    assert (c.epochs, c.lr, c.momentum, c.preset_name) == (9, 0.3, 0.9, "order")
    assert load(path, epochs=None).epochs == 7  # None means: as the preset says; any path will do


@pytest.mark.parametrize(("given", "value"), [
    ({"eps": "8/255"}, 8 / 255), ({"eps": "0.5"}, 0.5), ({"eps": "1e-3"}, 1e-3), ({"eps": 1}, 1.0),
    ({"fr_lambda": 0}, 0.0), ({"seed": 0}, 0), ({"train_size": 0}, 0),
    ({"milestones": [0.5, 0.75]}, (0.5, 0.75)), ({"seeds": [0, 1]}, (0, 1))])
def test_a_value_is_taken_exactly_zero_too_and_lists_become_tuples(given, value):
    (key, _), = given.items()
    found = getattr(load("smoke", **given), key)
    assert found == value and type(found) is type(value)


WRONG = {
    "unknown key": ({"epoch": 3}, r"unknown parameter 'epoch' \(did you mean 'epochs'\?\); known: "
                                  "preset, method, recipe"),
    "far from any key": ({"zzzz": 3}, "unknown parameter 'zzzz'; known: "),
    "method": ({"method": "at-frs"}, "method = 'at-frs': choose one of natural, at, at-swa, at-f"),
    "recipe": ({"recipe": "rice"}, "recipe = 'rice': choose one of preset, official"),
    "model": ({"model": "resnet50"}, "model = 'resnet50': choose one of resnet18, .*resnet8-32"),
    "transform": ({"fr_transform": "x"}, "fr_transform = 'x': choose one of class, batch-class"),
    "no radius": ({"eps": 0}, "eps = 0.0: must be above 0: there is no attack without a radius"),
    "seed too large": ({"seed": 2**63}, "seed = .*: must be between 0 and 9223372036854775807"),
    "no drop": ({"milestones": []}, "milestones = .*: one or more shares of the epochs"),
    "starts too late": ({"method": "at-fr", "fr_start_epoch": 75, "epochs": 15},
                        "fr_start_epoch = 75: a training of 15 epochs would end before it: choose "
                        "0 to 14"),
    "AWP starts too late": ({"method": "trades-awp", "recipe": "official", "epochs": 1},
                            "awp_start_epoch = 9: a training of 1 epochs would end"),
    "eps in grey levels": ({"eps": 8}, "eps = 8.0: must be between 0 and 1 .*write '8/255'"),
    "step in grey levels": ({"step_size": "2"}, "step_size = 2.0: must be .*write '2/255'"),
    "negative": ({"eps": -0.1}, "eps = -0.1: must be between 0 and 1"),
    "nan": ({"eps": math.nan}, "eps = nan: must be between 0 and 1"),
    "seed": ({"seed": -1}, "seed = -1: must be between 0 and"),
    "no epochs": ({"epochs": 0}, "epochs = 0: must be at least 1"),
    "batch of one": ({"batch_size": 1}, "batch_size = 1: must be at least 2"),
    "True is no int": ({"epochs": True}, "epochs = True: must be of type int"),
    "1 is no bool": ({"flip": 1}, "flip = 1: must be of type bool"),
    "float is no int": ({"epochs": 3.0}, "epochs = 3.0: must be of type int"),
    "text is no int": ({"epochs": "3"}, "epochs = '3': must be of type int"),
    "text is no float": ({"lr": "abc"}, "lr = 'abc': must be a number or a fraction 'a/b'"),
    "list is no float": ({"lr": [0.1]}, r"lr = \[0.1\]: must be of type float"),
    "number is no text": ({"model": 18}, "model = 18: must be of type str"),
    "milestone": ({"milestones": [75, 90]}, "milestones = .*shares of the epochs"),
    "milestone text": ({"milestones": ["a"]}, "milestones = .*shares of the epochs"),
    "one label": ({"runs": "at"}, "runs = 'at': must be of type tuple"),
    "wrong label": ({"runs": ["at", "atfr"]}, "method = 'atfr': choose one of"),
    "wrong change": ({"runs": ["at@epoch=3"]}, "unknown parameter 'epoch'"),
    "wrong ablation": ({"ablations": ["atfr"]}, "method = 'atfr': choose one of"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_names_its_key_and_the_choices(change, message):
    with pytest.raises(ValueError, match=message):
        load("smoke", **change)


# --- presets


@pytest.mark.parametrize("name", presets.shipped())
def test_every_preset_of_the_book_loads(name):
    path = presets.shipped()[name]
    c = load(name)
    assert c.preset_name == path.stem == name and c.label == c.method
    assert path.read_text().splitlines().count(f"preset: {name}") == 1
    config.check_labels(c)
    assert load() == load("smoke")


def test_a_preset_is_called_as_its_file_and_not_as_a_folder_of_results(tmp_path):
    path = preset_file(tmp_path, "{epochs: 3}", "mine")
    with pytest.raises(ValueError, match="says `preset: mine`, but .* write `preset: other`"):
        load(path.rename(tmp_path / "other.yaml"))
    with pytest.raises(ValueError, match="runs_dir has another folder 'results': rename the file"):
        load(preset_file(tmp_path, "{epochs: 3}", "results"))
    assert load("smoke", method="at", fr_start_epoch=75).epochs < 75  # which is nothing to AT


def test_a_notebook_has_its_own_method():
    with pytest.raises(ValueError, match="method = 'at': a notebook has its own; give `methods`"):
        config.from_parameters({"preset": "smoke", "method": "at"}, method="trades")


@pytest.mark.parametrize("name", ["smok", "", "smoke.yml", "nowhere/smoke.yaml", "../smoke"])
def test_an_unknown_preset_names_the_known_ones(name):
    with pytest.raises(FileNotFoundError, match=re.escape(f"unknown preset {name!r}: choose one "
                                                          f"of {', '.join(presets.shipped())}")):
        load(name)


@pytest.mark.parametrize("text", ["", "- 1", "epochs: 3", "preset: own", "settings: {epochs: 3}",
                                  "preset: own\nsettings: [3]", "preset: own\nsettings:",
                                  "preset: own\nsettings: {}\nepochs: 3"])
def test_a_preset_of_another_shape_is_refused(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="own.yaml: a preset holds two keys"):
        load(path)


@pytest.mark.parametrize(("lines", "message"), [
    ("epochs: 3\n  lr: 0.1\n  epochs: 2", "not plain YAML: line 5: the key 'epochs' stands twice"),
    ("epochs: 010", "line 3: YAML reads 010 as 8; write it in plain decimal digits"),
    ("epochs: 1_000", "YAML reads 1_000 as 1000"), ("epochs: 0x10", "YAML reads 0x10 as 16"),
    ("train_size: 1:30", "YAML reads 1:30 as 90"), ("lr: 1_0.5", "YAML reads 1_0.5 as 10.5"),
    ("runs: [at@epochs=010]", "epochs = '010': not a plain value"),
    ("runs: [at-swa]", "runs lists 'at-swa', which is read from a training and is none itself: "
     "list 'at'"),
    ("runs: ['at-fr-swa@epochs=3']", "list 'at-fr@epochs=3'"),
    ("runs: [sat]", "method = 'sat': choose one of"),
    ("epochs: [3", "not plain YAML: "), ("epocs: 3", "unknown parameter 'epocs'"),
    ("lr: fast", "lr = 'fast': must be a number"), ("seed: -1", "seed = -1: must be between 0")])
def test_what_a_preset_says_wrongly_is_told_with_its_file(tmp_path, lines, message):
    path = preset_file(tmp_path, f"\n  {lines}")
    with pytest.raises(ValueError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value) or lines == "epochs: [3"


def test_numbers_that_people_read_as_yaml_does_are_taken(tmp_path):
    c = load(preset_file(tmp_path, "{epochs: 10, lr: 1e-2, eps: .5, beta: 6., weight_decay: 0.5e-3,"
                                   " milestones: [0.50, 1], flip: no}"))
    assert (c.epochs, c.lr, c.eps, c.beta, c.weight_decay) == (10, 0.01, 0.5, 6.0, 5e-4)
    assert c.milestones == (0.5, 1) and c.flip is False


def test_a_presets_path_may_start_in_the_current_folder(tmp_path, monkeypatch):
    preset_file(tmp_path, "{epochs: 3}")
    monkeypatch.chdir(tmp_path)
    c = load("own.yaml", seed=1)
    monkeypatch.chdir("/")  # it is known from now on, wherever one goes
    assert c.label == "at" and c.epochs == 3 and c.preset_name == "own"


# --- labels


@pytest.mark.parametrize(("changes", "label"), [
    ({}, "at"),
    ({"epochs": 3}, "at@epochs=3"),
    ({"lr": 0.05}, "at@lr=0.05"),
    ({"flip": True}, "at@flip=true"),
    ({"attack_mode": "train", "epochs": 2}, "at@epochs=2,attack_mode=train"),
    ({"weight_decay": 1e-5}, "at@weight_decay=1e-05"),
    ({"method": "at-fr", "fr_transform": "batch-class"}, "at-fr@fr_transform=batch-class"),
    ({"model": "resnet8-32", "schedule": "one-cycle"}, "at@model=resnet8-32,schedule=one-cycle"),
    ({"eps": "4/255", "milestones": [0.5, 0.75]}, f"at@milestones=0.5+0.75,eps={4 / 255}"),
    ({"runs_dir": "else", "threads": 2, "judge_images": 5, "seed": 4, "fast": False}, "at"),
    ({"epochs": load("smoke").epochs}, "at"),  # as the preset says anyway
])
def test_a_label_says_what_was_changed_and_reads_back(changes, label):
    c = load("smoke", **changes)
    assert c.label == label
    assert load("smoke", **{**changes, **parse_label(label)}) == c
    assert c.is_preset == ("judge_images" not in changes and label == "at")


@pytest.mark.parametrize(("base", "label", "sibling"), [
    ("at-fr@fr_lambda=0.5", "at", "at"), ("at@fr_lambda=0.5", "at-fr", "at-fr@fr_lambda=0.5"),
    ("at-fr@epochs=3,fr_lambda=0.5", "at", "at@epochs=3"), ("trades@beta=3.0", "at-awp", "at-awp"),
    ("at@steps=1", "natural", "natural"), ("at@swa_start=0.5", "trades", "trades"),
    ("at@swa_start=0.5", "at-fr", "at-fr@swa_start=0.5"),
    ("at-fr@fr_lambda=0.5", "at-fr@fr_transform=none", "at-fr@fr_lambda=0.5,fr_transform=none"),
    ("trades@recipe=official,beta=3.0", "at-awp", "at-awp@recipe=official"),
])
def test_a_knob_goes_to_those_that_it_decides_something_of(base, label, sibling):
    c = load("smoke", **parse_label(base))
    assert c.sibling(label).label == sibling
    assert load("smoke", **parse_label(base)).of(c.method).sibling(c.method) == c.of(c.method)


@pytest.mark.parametrize(("changes", "label", "run"), [
    ({"judge_images": 20}, "at@judge_images=20", "at"),
    ({"judge_eps": 0.5, "epochs": 3}, "at@epochs=3,judge_eps=0.5", "at@epochs=3"),
    ({"method": "at-swa", "aa_images": 1}, "at-swa@aa_images=1", "at"),
    ({"method": "trades", "recipe": "official"}, "trades@recipe=official",
     "trades@recipe=official"),
    ({"judge_images": 40, "data_root": "x"}, "at", "at"),  # as the preset says anyway
])
def test_a_results_label_says_how_it_was_judged_and_reads_back(changes, label, run):
    c = load("smoke", **changes)
    assert (c.result_label, c.of(c.trained_as).label) == (label, run)
    assert labels.run_label(label) == run
    assert load("smoke", **{**changes, **parse_label(label)}) == c


def test_a_label_too_long_for_a_folder_is_refused():
    assert load("smoke", milestones=[0.5] * 50).label.count("0.5") == 50
    with pytest.raises(ValueError, match="differ from preset smoke make a label of.* of your own"):
        _ = load("smoke", milestones=[0.5] * 60, epochs=2).label


def test_a_label_follows_its_preset_file(own_root):
    """A run keeps its label; the next to be loaded compares with the file's new text."""
    file = own_root / "moving.yaml"
    file.write_text("preset: moving\nsettings: {epochs: 3}\n")
    c = load("moving.yaml", epochs=3)
    assert (c.label, c.result_label) == ("at", "at")
    file.write_text("preset: moving\nsettings: {epochs: 4}\n")
    assert c.label == "at"
    c = load("moving.yaml", epochs=3)
    assert (c.label, c.result_label) == ("at@epochs=3", "at@epochs=3")


@pytest.mark.parametrize("label", ["", "fgsm", "at@epochs", "at@epochs=x", "at@eps=8", "at@=3",
                                   "at@epochs=3,epochs=1"])
def test_a_wrong_label_is_refused(label):
    with pytest.raises(ValueError, match="method = |epochs (= |is given)|eps = |unknown para"):
        parse_label(label)


# --- notebooks


def test_the_variables_of_a_parameters_cell_make_a_config():
    namespace = {"preset": "smoke", "seed": 3, "epochs": None, "settings": {"lr": 0.2},
                 "eps": "4/255", "figure": "x.svg", "_private": 1, "In": [], "Out": {},
                 "load": load, "math": math}
    c = from_parameters(namespace, method="at-fr", own=("figure",))
    assert c == load("smoke", method="at-fr", seed=3, lr=0.2, eps="4/255")
    c = from_parameters({"epochs": 2, "settings": {"epochs": 9, "lr": 0.5}},
                        method="at")  # of both, the variable counts
    assert (c.epochs, c.lr, c.method, c.label) == (2, 0.5, "at", "at@epochs=2,lr=0.5")


def test_running_the_cell_again_after_the_rest_of_the_notebook_is_no_error():
    cells, asks = ["preset = 'smoke'\nseed = 1\nepochs = 2  # int"], "base = from_parameters(...)"
    namespace = {"In": ["", *cells, asks], "preset": "smoke", "seed": 1, "epochs": 2}
    first = from_parameters(namespace, method="at")
    namespace |= {"best": 0.5, "rows": [], "steps": 7}  # what later cells leave behind
    namespace["In"] += ["rows = []\nfor steps in range(8):\n    best = steps / 14", asks]
    for again in [], [*cells, asks], [*cells, "epochs = 2", asks]:
        namespace["In"] += again
        assert from_parameters(namespace, method="at") == first
    namespace["epochs"] = 3
    assert from_parameters(namespace, method="at").epochs == 3


@pytest.mark.parametrize(("value", "choices", "found"), [
    (["at", "at-fr"], ("at", "at-fr"), ["at", "at-fr"]), ("at", ("at", "mart"), ["at"]),
    ((8, 1), range(1, 33), [8, 1]), (16, range(1, 33), [16]), ("at@lr=1.0", None, ["at@lr=1.0"]),
    (None, ("at", "mart"), "must be a list of some of at, mart"), ([], ("at",), []),
    ([], range(1, 33), "x = []: must be"),
    (["sat"], ("at",), "x = ['sat']: must be a list of some of at"), ({"at": 1}, None, "of texts"),
    ([0], range(1, 33), "x = [0]: must be a list of whole numbers from 1 to 32"),
    (True, range(1, 33), "x = True: must be"), ("16", range(1, 33), "x = '16': must be")])
def test_a_list_of_choices_is_one_or_says_what_is_wanted(value, choices, found):
    if isinstance(found, list):
        assert config.a_list("x", value, choices) == found
    else:
        with pytest.raises(ValueError, match=re.escape(found)):
            config.a_list("x", value, choices)


@pytest.mark.parametrize("cells", [
    ["preset = 'smoke'\nepocs = 3"], ["import os\npreset = 'smoke'\nepocs = 3"],
    ["preset = 'smoke'", "# Parameters\nepocs = 3"], ["epocs = 3", "preset = 'smoke'"]])
@pytest.mark.parametrize("before", [[], ["preset = 'smoke'", "from_parameters()", "epochs = f()"]])
def test_a_misspelt_parameter_is_seen_at_any_run(before, cells):
    namespace = {"In": [*before, *cells, "from_parameters()"], "preset": "smoke", "epocs": 3}
    with pytest.raises(ValueError, match="unknown parameter 'epocs'"):
        from_parameters(namespace, method="at")
    namespace["In"][-1:] = ["print()", "preset = 'smoke'", "from_parameters()"]  # mended
    assert from_parameters(namespace, method="at") == load("smoke")


def test_an_own_preset_goes_in_by_name_and_settings(tmp_path, monkeypatch, caplog):
    """As papermill -f does: what it leaves out is the paper's, and nothing of it is a change."""
    monkeypatch.setitem(presets.GIVEN, "mine", {})
    given = {"epochs": 7, "model": "resnet8-16", "seeds": [0, 1]}
    c = from_parameters({"preset": "mine", "settings": given, "seed": None}, method="at-fr")
    assert "'mine' is none of the book's" in caplog.text and "as in the paper" in caplog.text
    assert (c.epochs, c.eps, c.judge_eps, c.seeds, c.label) == (7, 8 / 255, 8 / 255, (0, 1),
                                                                "at-fr")
    assert c.is_preset and c.preset_name == "mine" and c.sibling("at").label == "at"
    path = preset_file(tmp_path, "{epochs: 7, model: resnet8-16, seeds: [0, 1]}", "mine")
    assert dataclasses.replace(load(path, method="at-fr"), preset="mine") == c
    turned = from_parameters({"preset": "mine", "settings": given, "epochs": 3}, method="at")
    assert turned.label == "at@epochs=3"
    with pytest.raises(ValueError, match="unknown parameter 'epocs'"):
        from_parameters({"preset": "other", "settings": {"epocs": 7}}, method="at")
    for name in ("../up", "own.yaml", "a b"):
        with pytest.raises(FileNotFoundError, match="unknown preset"):
            from_parameters({"preset": name, "settings": given}, method="at")


def test_another_file_of_a_book_presets_name_is_refused(tmp_path):
    same = tmp_path / "mini.yaml"
    same.write_text(presets.shipped()["mini"].read_text().replace("threads: 1", "threads: 2"))
    assert load(same).label == "at"
    same.write_text(same.read_text().replace("epochs: 15", "epochs: 3"))
    with pytest.raises(ValueError, match=r"mini.yaml: the book has a preset 'mini' with other "
                                         r"settings \(epochs\); give the file another name"):
        load(same)


# --- places


def test_relative_paths_start_at_the_root_and_absolute_ones_stay(own_root, tmp_path, monkeypatch):
    assert places.project_root() == own_root
    assert places.resolve("runs/a") == own_root / "runs" / "a"
    assert places.resolve(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(places.resolve("~/runs")) == "/somewhere/runs"
    monkeypatch.delenv("FRLIB_ROOT")
    assert (places.project_root() / "frlib" / "run" / "places.py").is_file()


# --- recipes

OFFICIAL = {  # what each method's own code has, as in the papers' repositories
    "at": {"epochs": 200, "milestones": (0.5, 0.75), "attack_mode": "train", "normalise": True,
           "eps": 8 / 255, "step_size": 2 / 255, "weight_decay": 5e-4},
    "trades": {"epochs": 76, "eps": 0.031, "step_size": 0.007, "weight_decay": 2e-4, "beta": 6.0,
               "normalise": False, "attack_mode": "eval"},
    "mart": {"epochs": 90, "eps": 0.031, "step_size": 0.007, "weight_decay": 7e-4, "beta": 6.0,
             "normalise": False, "attack_mode": "eval"},
    "at-awp": {"epochs": 200, "milestones": (0.5, 0.75), "attack_mode": "train",
               "normalise": True, "awp_gamma": 0.01, "awp_start_epoch": 0, "weight_decay": 5e-4},
    "trades-awp": {"epochs": 200, "awp_gamma": 0.005, "awp_start_epoch": 9, "beta": 6.0,
                   "weight_decay": 5e-4, "eps": 8 / 255, "step_size": 2 / 255,
                   "normalise": False, "attack_mode": "eval"},
}


@pytest.mark.parametrize(("method", "values"), OFFICIAL.items(), ids=OFFICIAL)
def test_the_official_recipe_brings_the_methods_own_values(method, values):
    c = load("paper", method=method, recipe="official")
    assert {key: getattr(c, key) for key in values} == values
    assert (c.lr, c.momentum, c.batch_size, c.steps, c.schedule) == (0.1, 0.9, 128, 10, "step")
    assert config.OFFICIAL.keys() == OFFICIAL.keys()


@pytest.mark.parametrize("method", config.READ_FROM)
def test_without_a_recipe_every_method_trains_under_the_presets_settings(method):
    c = load("paper", method=method)
    assert c.recipe == "preset" and c.label == method
    assert c == dataclasses.replace(load("paper"), method=method)
    assert c == load("paper", method=method, recipe="preset")


def test_the_recipe_beats_the_preset_and_an_explicit_change_beats_the_recipe(own_root):
    preset_file(own_root, "{epochs: 7, eps: 0.1, lr: 0.3, method: trades}", "recipes")
    c = load("recipes.yaml", recipe="official", eps=0.2)
    assert (c.epochs, c.eps, c.lr, c.step_size) == (76, 0.2, 0.1, 0.007)
    assert load("recipes.yaml", recipe="official", epochs=None).epochs == 76


def test_a_preset_may_ask_for_the_recipe_and_a_change_may_decline_it(own_root):
    preset_file(own_root, "{recipe: official, epochs: 7}", "asks")
    c = load("asks.yaml", method="mart")
    assert (c.epochs, c.weight_decay, c.label) == (90, 7e-4, "mart")
    declined = load("asks.yaml", method="mart", recipe="preset")
    assert (declined.epochs, declined.label) == (7, "mart@recipe=preset")
    assert load("asks.yaml", **parse_label(declined.label)) == declined


@pytest.mark.parametrize("preset", ["paper", "smoke"])
@pytest.mark.parametrize("method", [*OFFICIAL, "at-swa"])
def test_the_label_names_the_recipe_and_what_differs_from_it(preset, method):
    c = load(preset, method=method, recipe="official")
    assert c.label == f"{method}@recipe=official"
    changed = load(preset, method=method, recipe="official", epochs=12)
    assert changed.label == f"{method}@recipe=official,epochs=12" and changed.epochs == 12
    for one in (c, changed):
        assert load(preset, **parse_label(one.label)) == one
    as_it_says = load(preset, method=method, recipe="official", eps=c.eps)
    assert as_it_says == c and as_it_says.label == c.label


@pytest.mark.parametrize("method", ["natural", "at-fr", "at-fr-swa", "at-sar", "at-sar-wa"])
def test_a_method_without_a_recipe_of_its_own_says_so(method):
    with pytest.raises(ValueError, match="recipe = 'official': only for at, at-awp, trades, mart, "
                                         f"trades-awp, not for '{method}'"):
        load("smoke", method=method, recipe="official")


def test_one_methods_recipe_does_not_pass_to_another():
    c = load("smoke", method="at", recipe="official")
    assert c.of("at-swa") == load("smoke", method="at-swa", recipe="official")
    with pytest.raises(ValueError, match="method = 'sat': choose one of"):
        c.of("sat")
    for other in ("at-awp", "trades", "natural"):
        with pytest.raises(ValueError, match=f"recipe = 'official' is that of at: load '{other}'"):
            c.of(other)
    assert load("smoke", method="at").of("trades") == load("smoke", method="trades")


# --- labels of a preset


@pytest.mark.parametrize(("label", "right"), [
    ("at-fr@fr_lambda=0.10", "at-fr"), ("at@epochs=4", "at"),
    ("at-fr@fr_start_epoch=3,fr_lambda=0.5", "at-fr@fr_lambda=0.5,fr_start_epoch=3")])
def test_a_label_that_no_run_has_is_refused(label, right):
    with pytest.raises(ValueError, match=f"lists '{re.escape(label)}': write '{right}'"):
        config.check_labels(load("smoke", runs=[label]))


def test_a_sibling_keeps_what_was_changed_and_gets_its_own_recipe():
    base = load("smoke", epochs=2, judge_images=5, threads=2)
    other = base.sibling("at-fr@fr_lambda=0.5")
    assert other == load("smoke", method="at-fr", fr_lambda=0.5, epochs=2, judge_images=5,
                         threads=2)
    official = load("mini").sibling("trades@recipe=official")
    assert official.label == "trades@recipe=official" and official.batch_size == 128


def test_all_are_judged_within_the_presets_radius_whatever_they_were_trained_with():
    assert load("smoke").judge_eps == load("smoke", eps=0.5).judge_eps == 16 / 255
    assert load("mini", method="trades", recipe="official").judge_eps == 8 / 255
    assert load("smoke", judge_eps=0.1).judge_eps == 0.1 and load("smoke", judge_eps=0.1).eps > 0.06


def test_what_a_command_overrules_is_no_setting_of_a_preset(own_root, capsys):
    preset_file(own_root, "{epochs: 7, seed: 3}", "seeded")
    assert load("seeded.yaml").seed == 3  # in Python, nothing overrules it
    assert main(["train", "--preset", "seeded.yaml"]) == 1
    assert "seeded.yaml sets seed, which a command or a notebook overrules: leave it out, and " \
        "give --seed (the pipeline: `seeds`)" in capsys.readouterr().err
    for given in {"preset": "seeded.yaml"}, {"preset": "mine", "settings": {"seed": 3}}:
        with pytest.raises(ValueError, match="sets seed, which a command or a notebook overrules"):
            from_parameters({**given, "seed": 0}, method="at")
