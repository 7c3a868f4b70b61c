"""The fingerprint follows every statement that a number depends on, and nothing else."""

from pathlib import Path

import pytest

from frlib import judge, train
from frlib.fingerprint import code_fingerprint

LIBRARY = Path(train.__file__).parent
ONE = '''"""A module."""
import math
from frlib import two
from frlib.three import helper

SCALE, unused = 2, 3


def start(x):
    """What it does."""
    return inner(x) + two.double(x) + helper(x)  # a comment


def inner(x):
    return SCALE * math.sqrt(x)


def elsewhere(x):
    return getattr(two, "double")(x)
'''
TWO = '''from frlib import one


def double(x):
    return Factor().value * x


class Factor:
    """Two."""
    value = 2


def other(x):
    return one.start(x)
'''
THREE = "def helper(x):\n    return x\n"


@pytest.fixture
def fingerprint(tmp_path):
    """Of one.start, or of what is named, after a change of the three modules."""
    def compute(*entries, before="", after="", modules=("one", "two", "three")):
        for name, text in (("one", ONE), ("two", TWO), ("three", THREE)):
            assert not before or before in ONE + TWO + THREE
            (tmp_path / f"{name}.py").write_text(text.replace(before, after) if before else text)
        return code_fingerprint(*(entries or ["one.start"]), modules=modules, folder=tmp_path)
    return compute


@pytest.mark.parametrize(("before", "after"), [
    ("inner(x) +", "inner(x) -"), ("SCALE * math", "SCALE + math"), ("unused = 2", "unused = 4"),
    ("Factor().value *", "Factor().value +"), ("value = 2", "value = 3"),
    ("return x\n", "return 2 * x\n")])
def test_what_is_used_counts(fingerprint, before, after):
    assert fingerprint(before=before, after=after) != fingerprint()


@pytest.mark.parametrize(("before", "after"), [
    ("  # a comment", ""), ("What it does.", "Else."), ('    """Two."""\n', ""),
    ("A module.", "Another."), ("\n\n\n", "\n\n"), ('getattr(two, "double")', "len"),
    ("return one.start(x)", "return 1")])
def test_comments_docstrings_layout_and_unused_code_do_not(fingerprint, before, after):
    assert fingerprint(before=before, after=after) == fingerprint()


def test_a_module_named_as_a_whole_counts_with_all_of_it(fingerprint):
    change = {"before": "return one.start(x)", "after": "return 1"}
    for entry in ("two", "one.elsewhere"):
        assert fingerprint(entry, **change) != fingerprint(entry)
    assert fingerprint("one.inner", **change) == fingerprint("one.inner")


def test_other_modules_are_left_out(fingerprint):
    change = {"before": "return x\n", "after": "return 2 * x\n"}
    assert fingerprint(modules=("one", "two"), **change) == fingerprint(modules=("one", "two"))


@pytest.mark.parametrize(("code", "entries", "names"), [
    (train, ("train.train",), {
        "train": ["_train", "train_epoch", "adversarial", "objective", "score", "_resume"],
        "attacks": ["_ascend", "cross_entropy"], "averaging": ["averaged", "reestimate_batchnorm"],
        "data": ["augment", "_cifar", "_digits"], "evaluate": ["robust"],
        "losses": ["kl", "trades", "mart", "frequency_regularization", "perturb_weights"],
        "models": ["create", "_fold"]}),
    (judge, judge.ENTRIES, {
        "judge": ["zero_gradient", "load_model"], "attacks": ["fgsm", "cw", "margin"],
        "models": ["_fold", "read_weights"], "zoo": ["load"],
        "evaluate": ["autoattack", "correct"], "spectral": ["kernel_roughnesses"]})])
def test_every_step_of_training_and_judging_is_found(tmp_path, code, entries, names):
    source = {module: (LIBRARY / f"{module}.py").read_text() for module in code.CODE}
    for module, text in source.items():
        (tmp_path / f"{module}.py").write_text(text)
    assert code_fingerprint(*entries, modules=code.CODE, folder=tmp_path) == code.code()
    for module, functions in names.items():
        for name in functions:
            changed = source[module].replace(f"\ndef {name}(", f"\n@changed\ndef {name}(")
            assert changed != source[module], (module, name)
            (tmp_path / f"{module}.py").write_text(changed)
            found = code_fingerprint(*entries, modules=code.CODE, folder=tmp_path)
            assert found != code.code(), (module, name)
        (tmp_path / f"{module}.py").write_text(source[module])
