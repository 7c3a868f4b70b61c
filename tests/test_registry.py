"""Names and what they stand for: taken ones are refused, ours stay, a notebook's are replaced."""

import pytest

from frlib import data, evaluate, losses, methods, models

METHOD = methods.Method("mine", None, methods.cross_entropy)
REGISTER = {
    "method": (methods.register, METHOD, "at"),
    "model": (models.register, lambda num_classes, mean, std: None, "resnet18"),
    "dataset": (data.register, lambda root, train, download: None, "digits"),
    "transform": (losses.register_transform, lambda difference: difference.sum(), "class"),
    "attack": (evaluate.register_attack, lambda model, x, y, *, eps, generator: x, "pgd20"),
}


@pytest.mark.parametrize("kind", REGISTER)
def test_a_taken_name_is_refused_and_a_readers_own_is_replaced(registries, kind):
    register, entry, ours = REGISTER[kind]
    register("mine", entry)
    with pytest.raises(ValueError, match=f"{kind} 'mine' is registered already; replace=True"):
        register("mine", entry)
    register("mine", entry, replace=True)  # as a cell does that is run again
    more = ("aa", "clean") if kind == "attack" else ()
    for name in (ours, "../at", "at,x", "", 3, *more):  # stored numbers were made by ours
        with pytest.raises(ValueError, match=f"{kind} {name!r}"):
            register(name, entry, replace=True)


@pytest.mark.parametrize(("name", "averaged"), [("at-swa", ""), ("mine", "at-fr"), ("mine", "mine"),
                                                ("mine", "at-swa"), ("figures", ""),
                                                ("mine", "lens")])
def test_the_names_of_averages_are_taken_too(registries, name, averaged):
    method = methods.Method("mine", None, methods.cross_entropy, averaged=averaged)
    with pytest.raises(ValueError, match=f"'{averaged or name}' is registered already"):
        methods.register(name, method)
    assert methods.readings() == {k: v for k, v in methods.readings().items() if k != "mine"}
