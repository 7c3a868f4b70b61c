"""Files of others: nothing in them is ever run, and what is wrong in them is told."""

import ast
import hashlib
import html
import json
import os
import pickle
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_preset
from docutils.core import publish_string
from myst_parser.parsers.docutils_ import Parser

from frlib import data, evaluate, models, train
from frlib.__main__ import main
from frlib.publish import book_tables, claims_tables, first_page, sources
from frlib.publish import notebook_views as views
from frlib.publish.collected import collect
from frlib.run import config, evaluate_run, files, folder

REPO = Path(__file__).resolve().parents[1]


# what is said of a pickle in torch.save's archive, and of one without it
REFUSED = r"(not a file of plain weights .*never loaded|damaged checkpoint .*delete its folder)"


class Payload:
    """An object whose pickle makes a folder when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def bare_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


PICKLES = pytest.mark.parametrize("save", [bare_pickle, torch.save], ids=["bare", "torch.save"])


@pytest.fixture
def marker(tmp_path):
    """A path that must not come into being."""
    path = tmp_path / "the payload ran"
    yield path
    assert not path.exists()


@PICKLES
def test_the_payload_is_a_live_one(tmp_path, save):
    save(Payload(tmp_path / "ran"), tmp_path / "file")
    with open(tmp_path / "file", "rb") as file:
        (pickle.load(file) if save is bare_pickle else torch.load(file, weights_only=False))
    assert (tmp_path / "ran").is_dir()


# --- no code of ours runs what it reads

RUNS = re.compile(r"eval|exec|compile|__import__|os\.(system|popen)|(pickle|joblib|marshal)\.\w+|"
                  r"yaml\.(?!safe_load$)\w*load\w*")


def runs_what_it_reads(source: str) -> list[str]:
    """The calls in a source that would run, or unpickle, what they are given."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            trusting = name == "torch.load" and given.get("weights_only") != "True"
            if trusting or RUNS.fullmatch(name) or "True" in (given.get("allow_pickle"),
                                                              given.get("shell")):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("source", [
    "eval('1')", "exec(text)", "pickle.load(f)", "pickle.loads(b)", "yaml.load(t, Loader=x)",
    "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)",
    "subprocess.run(c, shell=True)", "os.system(c)", "yaml.unsafe_load(t)"])
def test_the_reader_of_calls_sees_each_kind(source):
    assert runs_what_it_reads(source) == [source]


def readable():
    for path in [*REPO.glob("frlib/**/*.py"), *REPO.glob("benchmarks/*.py"),
                 *REPO.glob("book/_ext/*.py"), *REPO.glob("notebooks/*.ipynb")]:
        text = path.read_text()
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]
                             if cell["cell_type"] == "code")
        yield pytest.param(text, id=f"{path.parent.name}/{path.name}")


@pytest.mark.parametrize("source", list(readable()))
def test_nothing_that_is_read_is_run(source):
    assert runs_what_it_reads(source) == []


# --- checkpoints


@pytest.fixture(scope="module")
def trained(own_root, small_digits, tmp_path_factory):
    """The files of a finished training, each by name."""
    write_preset(own_root, "hostile", epochs=2, judge_images=4, aa_images=2)
    folder = tmp_path_factory.mktemp("trained")
    run = train.train(config.load("hostile.yaml", method="at", runs_dir=str(folder)))
    return {path.name: path.read_bytes() for path in run.dir.glob("*.*") if path.is_file()}


@pytest.fixture
def run(trained, tmp_path):
    """A copy of that run, to be spoilt."""
    found = folder.open_run(config.load("hostile.yaml", runs_dir=str(tmp_path / "runs")))
    found.dir.mkdir(parents=True)
    for name, content in trained.items():
        (found.dir / name).write_bytes(content)
    return found


@pytest.fixture
def summary(monkeypatch):
    """Judging that only loads: the numbers are hashes of the weights it would have judged."""
    def hashes(config, label, work, test, networks):
        return {which: hashlib.sha256(b"".join(
            tensor.numpy().tobytes() for tensor in model.state_dict().values())).hexdigest()
            for which, model in networks.items()}

    def hashes_told(label, done, test, model, finished, theirs):
        return {"scores": done, "train data": finished["data"]}
    monkeypatch.setattr(evaluate_run, "_judge", hashes)
    monkeypatch.setattr(evaluate_run, "_summary", hashes_told)

    def judged(run, method="at-swa"):
        settings = config.load("hostile.yaml", method=method, runs_dir=run.config.runs_dir)
        evaluate_run.result_path(settings).unlink(missing_ok=True)
        result = evaluate_run.judge(settings)
        return {key: result[key] for key in ("scores", "history", "epoch", "train data",
                                             "train_provenance", "checkpoint_sha256")}
    return judged


@PICKLES
@pytest.mark.parametrize("name", ["best", "swa-best", "last"])
def test_code_in_a_checkpoint_is_refused_when_it_is_judged(run, summary, marker, save, name):
    save({"state_dict": Payload(marker), "state": Payload(marker)}, run.dir / f"{name}.pt")
    with pytest.raises((ValueError, RuntimeError), match=f"{name}.pt"):
        summary(run, "at" if name == "best" else "at-swa")
    finished = files.read_json(run.dir / "finished.json")  # who can write one can write both
    for which in finished["checkpoints"].keys() - {"swa-last"}:
        finished["checkpoints"][which] = files.file_checksum(run.checkpoint(which))
    files.write_json(run.dir / "finished.json", finished)
    with pytest.raises((ValueError, RuntimeError), match=f"{name}.pt: {REFUSED}"):
        summary(run, "at" if name == "best" else "at-swa")


@PICKLES
def test_code_in_a_checkpoint_is_refused_when_training_goes_on(run, marker, save):
    (run.dir / "finished.json").unlink()
    save({"state_dict": Payload(marker)}, run.dir / "last.pt")
    with pytest.raises((ValueError, RuntimeError), match=f"last.pt: {REFUSED}"):
        train.train(run.config)


@PICKLES
def test_code_in_the_state_of_autoattack_is_refused(tmp_path, marker, save):
    save({"identity": Payload(marker)}, tmp_path / "autoattack.pt")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 4))
    with pytest.raises((ValueError, RuntimeError), match=f"autoattack.pt: {REFUSED}"):
        evaluate.autoattack(model, torch.rand(1, 3, 1, 1), torch.tensor([0]), eps=0.1, seed=0,
                            batch_size=1, state_dir=tmp_path)


@PICKLES
def test_code_in_the_weights_of_others_is_refused(tmp_path, marker, save, own_root, trained):
    save({"state_dict": {"conv1.weight": Payload(marker)}}, tmp_path / "theirs.pt")
    settings = config.load("hostile.yaml", runs_dir=str(tmp_path / "runs"))
    for read in (lambda path: models.load_checkpoint(models.create("resnet8-16"), path),
                 lambda path: evaluate_run.judge_checkpoint("mine:resnet8-16", path, settings)):
        with pytest.raises(ValueError, match="theirs.pt: not a file of plain weights .*never load"):
            read(tmp_path / "theirs.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_get_no_score(run, tmp_path, value):
    weights = models.create("resnet8-16").state_dict()
    weights["linear.bias"][3] = value
    torch.save(weights, tmp_path / "diverged.pt")
    with pytest.raises(ValueError, match="judged checkpoint holds weights that are not finite"):
        evaluate_run.judge_checkpoint("mine:resnet8-16", tmp_path / "diverged.pt", run.config)


# --- damage


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The bytes with one bit flipped, or without their end."""
    place = chance.randrange(len(content))
    if chance.random() < 0.2:
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) \
        + content[place + 1:]


@pytest.mark.parametrize("name", ["swa-best.pt", "last.pt", "finished.json", "config.json",
                                  "metrics.jsonl"])
def test_a_damaged_file_of_a_run_is_named_or_changes_no_number(run, trained, summary, name):
    whole, chance, refused = summary(run), random.Random(name), 0
    for _ in range(12):
        (run.dir / name).write_bytes(damaged(trained[name], chance))
        try:
            assert summary(run) == whole
        except (ValueError, RuntimeError) as error:
            refused += 1
            assert name in str(error) and "delete" in str(error)
    assert refused >= (0 if name == "metrics.jsonl" else 7)


@pytest.mark.parametrize("name", ["best.pt", "last.pt", "swa-best.pt"])
def test_training_does_not_go_on_from_a_damaged_checkpoint(run, trained, name):
    (run.dir / "finished.json").unlink()
    place = trained[name].index(b"PK", 3 * len(trained[name]) // 4) - 500  # within the weights
    spoilt = bytearray(trained[name])
    spoilt[place] ^= 1
    (run.dir / name).write_bytes(spoilt)
    torch.load(run.dir / name, weights_only=True)  # which sees nothing
    with pytest.raises(RuntimeError, match=f"{name}: damaged checkpoint .*delete its folder"):
        train.train(run.config)


def test_a_damaged_archive_is_seen_or_reads_the_same(tmp_path):
    path, chance = tmp_path / "state.pt", random.Random(0)
    torch.save({"robust": torch.arange(40) % 3 == 0, "stages": {"clean": 14}}, path)
    whole = path.read_bytes()
    for _ in range(300):
        path.write_bytes(damaged(whole, chance))
        try:
            files.check_archive(path)
        except RuntimeError as error:
            assert str(error).startswith(f"{path}: damaged checkpoint")
            continue
        try:
            found = torch.load(path, weights_only=True)
        except Exception:  # noqa: S112
            continue  # whoever reads it names the file
        assert found["robust"].tolist() == [i % 3 == 0 for i in range(40)]
        assert found["stages"] == {"clean": 14}


# --- presets


def preset(folder, settings: str):
    path = folder / "own.yaml"
    path.write_text(f"preset: own\nsettings: {settings}\n")
    return str(path)


TAGS = ["!!python/object/apply:os.mkdir ['{}']", "{{eps: !!python/object/apply:os.mkdir ['{}']}}",
        "{{runs: [!!python/object/new:os.mkdir ['{}']]}}", "!!python/name:os.mkdir",
        "{{eps: !!python/object/apply:eval [\"__import__('os').mkdir('{}')\"]}}"]


@pytest.mark.parametrize("step", ["train", "judge", "report"])
def test_a_tag_in_a_preset_is_refused(tmp_path, marker, capsys, step):
    for tag in TAGS if step == "train" else TAGS[:1]:
        path = preset(tmp_path, tag.format(marker))
        assert main([step, "--preset", path, "--out", str(tmp_path / "out")]) == 1
        assert f"error: {path}: not plain YAML" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["__import__('os').mkdir('{}')", "8/255; open('{}', 'w')",
                                   "os.mkdir('{}')", "1e999999999", "1/3e99_999_999",
                                   "9" * 200 + "/7"])
def test_a_number_is_parsed_and_never_evaluated(tmp_path, marker, value):
    start = time.process_time()
    with pytest.raises(ValueError, match="eps = .*must be a number or a fraction"):
        config.load("smoke", eps=value.format(marker))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("label", ["at@data_root=;mkdir '{}'", "at@epochs=3 # $(mkdir '{}')",
                                   "at`mkdir '{}'`", "at\nmkdir '{}'", "at@epochs=3;mkdir {}",
                                   "at@data_root=x", "at@preset=mini", "at@seed=3", "at@=",
                                   "at@epochs==", "at@method=at-fr", "at@epochs=2001-99-99"])
def test_a_label_in_a_preset_holds_no_command(tmp_path, marker, capsys, label):
    path = preset(tmp_path, json.dumps({"runs": [label.format(marker)]}))
    assert main(["train", "--preset", path]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error


def test_a_preset_that_unfolds_without_end_is_told_in_a_line(tmp_path, capsys):
    """Each list holds the one before nine times: 9^20 items, if someone were to print them."""
    lines = ["- &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    for key in ("milestones", "seeds", "runs", "eps", "model"):
        path = preset(tmp_path, "\n   ".join(["\n  lr:", *lines]) + f"\n  {key}: *a19")
        assert main(["train", "--preset", path]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and len(error) < 1000


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "when: 2001-99-99",
                                  "n: " + "9" * 5000])
def test_a_preset_that_yaml_itself_cannot_take_is_named(tmp_path, text):
    with pytest.raises(ValueError, match="own.yaml: not plain YAML"):
        config.load(preset(tmp_path, f"\n  {text}"))


# --- result files

MADE = {"commit": "0123456789abcdef", "dirty": False, "versions": {"torch": "2.11.0"},
        "device": "CPU", "threads": 1, "date": "2026-01-02 03:04:05"}


def score(count=3, total=4, **more):
    return {**files.score(np.arange(total) < count), **more}


def result(**changes):
    return {"preset": "own", "label": "at", "seed": 0, "checkpoint": "best",
            "scores": {"clean": score(), "fgsm": score(), "pgd20": score(2), "cw": score(2),
                       "aa": score(1, stages={"clean": 3, "square": 1})},
            "last": {"clean": score(), "pgd20": score(1)}, "roughness": [1.0, 2.0],
            "history": [{"epoch": 1, "loss_ce": 2.0, "lr": 0.1, "val_pgd": 0.5, "val_clean": 0.5,
                         "test_pgd": 0.5, "test_clean": 0.5, "seconds": 1.0}],
            "config": {"model": "resnet8-16", "dataset": "digits", "eps": 0.1}, "warnings": [],
            "data": {"test": "abc"}, "seconds": {"train": 2.0, "judge": 1.0},
            "zero_gradient": {"count": 0, "total": 4}, "provenance": MADE,
            "train_provenance": MADE, "numerics": {"train": 1, "judge": 1}, **changes}


@pytest.fixture
def stored(tmp_path):
    """Writes the text of a result file of preset "own"; returns what is collected."""

    def write(text, label="at", name="seed0.json"):
        path = tmp_path / "results" / "own" / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return collect("own", tmp_path / "results")
    return write


PAGES = (sources.badge, first_page.headline, first_page.verdicts, claims_tables.claims,
         book_tables.table1, book_tables.table2, book_tables.table2_html, book_tables.readings,
         book_tables.ablations, book_tables.settings, sources.costs, sources.provenance)


def shown(collected):
    """{name: text} of every table that a result goes into, in the book and in notebooks."""
    made = {make.__name__: make("own", collected) for make in PAGES}
    first = {label: views.first(found) for label, found in collected.items()}
    made |= {table.__name__: table(first, "own") for table in (
        views.benchmark_table, views.masking_table, views.overfitting_table)}
    return made | {"history": views.history_table(views.histories(collected, collected), "own")}


def test_a_good_result_is_shown(stored):
    made = shown(stored(json.dumps(result())))
    assert "75.0 [19.4,\u00a099.4]" in made["table2"] and "CPU" in made["provenance"]
    assert all("at" in table for table in made.values())


DEEP = '{"scores": ' + "[" * 100_000 + "]" * 100_000 + "}"
WRONG = {
    "a list": "[]", "a number": "3", "nothing": "", "no scores": "{}", "nested too deep": DEEP,
    "nested deep": '{"scores": {}, "kernels": ' + "[" * 900 + '"x"' + "]" * 900 + "}",
    "NaN": json.dumps(result(roughness=[float("nan")])),
    "infinite": json.dumps(result(roughness=[1.0])).replace("[1.0]", "[1e999]"),
    "huge integer": json.dumps(result(roughness=[1])).replace("[1]", "[" + "9" * 5000 + "]"),
    "huge": json.dumps(result(history=[{"epoch": 10**300}])),
    "scores are a list": json.dumps(result(scores=[1])),
    "a score is a number": json.dumps(result(scores={"clean": 3})),
    "a score without flags": json.dumps(result(scores={"clean": {"correct": 3, "total": 4}})),
    "more correct than flags": json.dumps(result(scores={"clean": score() | {"correct": 4}})),
    "more correct than images": json.dumps(result(scores={"clean": score() | {"total": 2}})),
    "negative": json.dumps(result(scores={"clean": score() | {"total": -4, "correct": -3}})),
    "no images": json.dumps(result(scores={"clean": score(0, 0)})),
    "flags are no base64": json.dumps(result(scores={"clean": score() | {"flags": "<b>!"}})),
    "text for a number": json.dumps(result(scores={"clean": score() | {"correct": "3"}})),
    "stages": json.dumps(result(scores={"aa": score(stages={"clean": "many"})})),
    "history of text": json.dumps(result(history="long")),
    "an epoch of text": json.dumps(result(history=[{"epoch": "first"}])),
    "roughness of text": json.dumps(result(roughness=["rough"])),
    "device": json.dumps(result(provenance=MADE | {"device": ["CPU"]})),
    "commit": json.dumps(result(train_provenance=MADE | {"commit": 7})),
    "versions": json.dumps(result(provenance=MADE | {"versions": "2.11"})),
    "provenance": json.dumps(result(provenance="here")),
    "warnings": json.dumps(result(warnings=3)), "seconds": json.dumps(result(seconds="long")),
    "different images": json.dumps(result(last={"clean": score(3, 5)})),
    "config": json.dumps(result(config=[])), "model": json.dumps(result(config={"model": 18})),
    "long text": json.dumps(result(config={"model": "x" * 100_000})),
    "test data": json.dumps(result(data={"test": [1]})),
    "own code": json.dumps(result(own_code=["x"])), "trained by": json.dumps(result(trained_by=3)),
    "another content": json.dumps(result(sha256="0" * 64)),
    "a label": json.dumps(result(radial={"**at**": [1.0]})),
    "an attack": json.dumps(result(scores={"<b>": score()})),
    "zero gradient": json.dumps(result(zero_gradient={"count": "0", "total": 4})),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_result_is_named(stored, text):
    with pytest.raises(ValueError, match=r"own/at/seed0.json: (damaged JSON|not a result file) "
                                         r"\(.*\); delete it"):
        stored(text)


@pytest.mark.parametrize("key", [*result(), *(f"scores.{name}" for name in result()["scores"]),
                                 *(f"provenance.{name}" for name in MADE)])
def test_a_missing_key_is_not_run_or_named(stored, key):
    made = json.loads(json.dumps(result()))
    where = made
    for part in key.split(".")[:-1]:
        where = where[part]
    del where[key.split(".")[-1]]
    try:
        collected = stored(json.dumps(made))
    except ValueError as error:
        assert "seed0.json" in str(error)
    else:
        shown(collected)


@pytest.mark.parametrize(("label", "name"), [
    ("<script>alert(1)<", "seed0.json"), ("at`x", "seed0.json"), ("at\n- x", "seed0.json"),
    ("at x", "seed0.json"), ("at", "seed-1.json"), ("at", "seed².json"), ("at", "seed00.json")])
def test_an_odd_name_is_refused(stored, label, name):
    with pytest.raises(ValueError, match="no label of a run|named seed<number>.json"):
        stored(json.dumps(result()), label, name)


ATTEMPTS = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
            "[click](javascript:alert(1))", "![x](javascript:alert(1))", "`` `<b>x</b>` ``",
            "x\n```\n\n```{raw} html\n<script>alert(1)</script>\n```\n",
            "x\n  - another cell\n* - another row", "{eval-rst}`x`", "&lt;script&gt;", "<!--",
            "**bold** and $x$", "\\<script>alert(1)</script>", "{{ substitution }}"]


def made_html(page: str) -> str:
    """A page of the book as its parser renders it, without the rest of the book."""
    return publish_string(page, parser=Parser(), writer_name="html5", settings_overrides={
        "myst_enable_extensions": ["dollarmath", "amsmath", "colon_fence", "deflist"],
        "embed_stylesheet": False, "warning_stream": "", "output_encoding": "unicode"})


@pytest.mark.parametrize("text", ATTEMPTS)
def test_text_of_a_file_is_shown_and_is_no_markup(stored, text):
    spoilt = MADE | {"device": text}
    made = shown(stored(json.dumps(result(provenance=spoilt, train_provenance=spoilt,
                                          checkpoint=text, warnings=[text]))))
    before = made_html(sources.provenance("own", stored(json.dumps(result(warnings=["w"])))))
    after = made_html(made["provenance"])
    # the page differs in one cell's text, and shows there what the file holds
    assert after.replace(html.escape(" ".join(text.split()), quote=False), "CPU") == before
    tables = [made[name] for name in made if name.endswith(("_html", "_table", "history"))]
    assert len(tables) == 5
    assert not any(re.search(r"<(script|img|b\b|!)", table) for table in tables)


@pytest.mark.parametrize("place", ["model", "dataset", "commit", "date", "torch"])
def test_text_where_a_name_should_be_is_refused(stored, place):
    for text in ATTEMPTS:
        made = json.loads(json.dumps(result()))
        for where in (made["config"], made["provenance"], made["provenance"]["versions"]):
            if place in where:
                where[place] = text
        with pytest.raises(ValueError, match=rf"not a result file .*\.{place} is not a name"):
            stored(json.dumps(made))


# --- official data sets, which are pickles by format


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("name", "folder", "files"), [
    ("cifar10", "cifar-10-batches-py", ["data_batch_1", "test_batch", "batches.meta"]),
    ("cifar100", "cifar-100-python", ["train", "test", "meta"]),
    ("svhn", "", ["train_32x32.mat", "test_32x32.mat"])])
def test_a_pickle_that_is_not_the_official_one_is_never_opened(tmp_path, marker, name, folder,
                                                               files, split):
    for file in files:
        path = tmp_path / folder / file
        path.parent.mkdir(exist_ok=True)
        bare_pickle(Payload(marker), path)
    with pytest.raises(RuntimeError, match="damaged .* file .MD5 differs.*delete it"):
        data.load(name, tmp_path, split, download=False)
