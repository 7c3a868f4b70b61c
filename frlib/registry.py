"""Names and what they stand for: methods, networks, data sets, attacks that judge, transforms.

Each of these is a `Registry`, to which this library adds its own entries and a reader theirs.
"""

from __future__ import annotations

import re


class Registry(dict):
    """{name: entry}; `kind` says in messages what is registered, as "network"."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.builtin = kind, frozenset()

    def add(self, name: str, entry, *, replace: bool = False, taken=()) -> None:
        """Enter `entry` under a name that is free: neither here nor in `taken`.

        `replace` puts it in the place of an earlier one, as a notebook's cell does that is run
        again; this library's own entries stay as they are, since stored numbers were made by them.
        Raises ValueError naming what is taken, or is no plain word: names become those of folders.
        """
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,79}", name, re.ASCII):
            raise ValueError(f"{self.kind} {name!r}: a name must be of letters, digits and . _ - "
                             "alone")
        fixed = name in self.builtin or name in taken
        if fixed or name in self and not replace:
            hint = "" if fixed else "; replace=True puts this one there"
            raise ValueError(f"{self.kind} {name!r} is registered already{hint}")
        self[name] = entry

    def find(self, name: str):
        """The entry of a name; ValueError naming all that are known."""
        if name not in self:
            raise ValueError(f"unknown {self.kind} {name!r}: choose one of {', '.join(self)}")
        return self[name]

    def close(self) -> None:
        """What is here by now is this library's own."""
        self.builtin = frozenset(self)
