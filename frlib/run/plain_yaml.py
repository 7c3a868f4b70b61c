"""YAML in which nothing is other than it looks: for presets and for the values of labels."""

import re

import yaml

PLAIN = {"int": r"[-+]?(0|[1-9][0-9]*)", "float": r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?"}


def read(text: str):
    """What a YAML text holds, of plain containers and values: nothing in it is executed.

    ValueError in one line for a key that stands twice in a mapping, of which YAML takes the last,
    and for a number that YAML 1.1 reads as another than people do (010 is 8, 1:30 is 90); what
    PyYAML raises, a yaml.YAMLError or a ValueError, for what is no plain YAML.
    """
    return _Loader(text).get_single_data()


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, (key, _) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value in keys[:index]:
                raise ValueError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands "
                                 "twice")
        return super().construct_mapping(node, deep)


def _number(kind: str):
    construct = getattr(yaml.SafeLoader, f"construct_yaml_{kind}")

    def checked(loader, node):
        value = construct(loader, node)
        if not re.fullmatch(PLAIN[kind], node.value, re.IGNORECASE):
            line = node.start_mark.line + 1
            raise ValueError(f"line {line}: YAML reads {node.value} as {value}; write it in plain "
                             "decimal digits")
        return value
    return checked


for _kind in PLAIN:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _number(_kind))
