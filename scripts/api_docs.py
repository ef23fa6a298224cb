#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""usage: api_docs.py DIR

The reference of the Python packages as web pages: docstrings as help() shows them, types from the
.pyi files of the compiled modules.  Refuses to leave a public name without text or signature.
"""

import inspect
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from enum import EnumType
from pathlib import Path

from pdoc import doc, render

TOP = Path(__file__).resolve().parent.parent
MODULES = ["shmclient", "shmclient.aio", "shmclient.file", "shmserver"]
COMPILED = {"shmclient": "_native", "shmserver": "_core"}
# pybind11 begins a docstring with the signature, which the stubs have in better words.
SIGNATURE = re.compile(r"\A\w*\(.*\) -> .*\n*")


def load(names: Iterable[str]) -> dict[str, doc.Module]:
    """pdoc takes the types of a package from PACKAGE-stubs, as type checkers do (PEP 561)."""
    with tempfile.TemporaryDirectory() as directory:
        for package, module in COMPILED.items():
            stubs = Path(directory, f"{package}-stubs")
            stubs.mkdir()
            # pdoc imports a stub, which need not stand that: it may name what comes later.
            text = (TOP / package / f"{module}.pyi").read_text()
            for name in ("__init__", module):  # a package shows what is made in its module
                stub = stubs / f"{name}.pyi"
                stub.write_text(f"from __future__ import annotations\n{text}")
        sys.path.insert(0, directory)
        try:
            modules = {name: doc.Module.from_name(name) for name in names}
            for documented in modules.values():
                for owner, member in members(documented):
                    tidy(owner, member)
        finally:
            sys.path.remove(directory)
    return modules


def members(namespace: doc.Namespace) -> Iterator[tuple[doc.Namespace, doc.Doc]]:
    """All that is public and ours, at any depth, with what it is a member of."""
    for member in namespace.members.values():
        package = member.taken_from[0].partition(".")[0]
        if package in COMPILED and not member.name.startswith("_"):
            yield namespace, member
            if isinstance(member, doc.Class):
                yield from members(member)


def tidy(owner: doc.Namespace, member: doc.Doc) -> None:
    attribute = inspect.getattr_static(owner.obj, member.name, None)
    text = attribute.__doc__ if isinstance(attribute, property) else member.docstring
    member.docstring = SIGNATURE.sub("", text or "")
    if isinstance(member, doc.Function) and lacks_signature(member):
        source = doc.Module.from_name(member.taken_from[0]).get(member.taken_from[1])
        if isinstance(source, doc.Function):  # inherited from a type that is made in C
            member.signature = source.signature
    if isinstance(member, doc.Class):
        member.bases = [base for base in member.bases if base[0] != "pybind11_builtins"]
        signature = getattr(member.obj, "__text_signature__", None)
        if signature and "__init__" not in member.members:  # a type made in C
            member.docstring = f"    {member.name}{signature}\n\n{member.docstring}"


def lacks_signature(function: doc.Function) -> bool:
    return "unknown" in function.signature.parameters  # pdoc's way to say so


def faults(modules: dict[str, doc.Module]) -> list[str]:
    found = []
    for module in modules.values():
        for owner, member in members(module):
            of_an_enum = isinstance(owner.obj, EnumType)
            if not member.docstring and not of_an_enum:
                found.append(f"{member.fullname} has no docstring")
            if isinstance(member, doc.Function) and lacks_signature(member):
                found.append(f"{member.fullname} has no signature")
    return found


def write(modules: dict[str, doc.Module], target: Path) -> None:
    version = (TOP / "VERSION").read_text().strip()
    render.configure(show_source=False, footer_text=f"openvstorage-shm {version}")
    pages = {
        f"{name.replace('.', '/')}.html": render.html_module(module, modules)
        for name, module in modules.items()
    }
    pages["index.html"] = render.html_index(modules)
    pages["search.js"] = render.search_index(modules)
    for name, text in pages.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.simplefilter("error")
    # A class that compares has None for __hash__, which its stub does not repeat.
    warnings.filterwarnings("ignore", r"Error processing type stub for \S+\.__hash__")
    modules = load(MODULES)
    if found := faults(modules):
        sys.exit("\n".join(f"api_docs.py: error: {fault}" for fault in found))
    write(modules, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
