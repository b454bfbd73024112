"""All mutants of a module: mutmut's operators, applied to its functions and to what stands outside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from textwrap import dedent
from typing import TypeAlias

import libcst as cst
from mutmut.mutation.mutators import mutation_operators

PACKAGE = "profiled_spawner"

# Their arguments are types, or the call has no other form: mutmut leaves out the first two as well.
_CALLS_LEFT_ALONE = frozenset({"len", "isinstance", "cast", "TypeVar"})
_NAMES_LEFT_ALONE = frozenset({"__all__", "__slots__"})

Unit: TypeAlias = "cst.FunctionDef | cst.SimpleStatementLine | cst.BaseCompoundStatement"


@dataclass(frozen=True, slots=True)
class Change:
    """What one mutant changes, told by texts alone, so that it is found again after lines have moved.

    Attributes:
        module: The module below the package, such as ``decide.matching``.
        unit: The function, such as ``Quantity.parse``; outside functions, the name that is set, or ``(module)``.
        operator: mutmut's name of the operator, such as ``swap_op``.
        was: The lines that change, without their indentation.
        now: What they become; it may be nothing.
        number: Which one this is, of several that are alike in all of this; from 1.
    """

    module: str
    unit: str
    operator: str
    was: str
    now: str
    number: int = 1


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change, and how to make it."""

    change: Change
    _module: cst.Module
    _original: cst.CSTNode
    _mutated: cst.CSTNode

    def source(self) -> str:
        """The text of the module with this change."""
        changed = self._module.deep_replace(self._original, self._mutated)
        assert isinstance(changed, cst.Module)
        code: str = changed.code
        return code


def find_modules(root: Path, package: str) -> list[str]:
    """The modules of one of the packages, such as ``decide.matching``, in the order of their names."""
    return sorted(f"{package}.{path.stem}" for path in (root / PACKAGE / package).glob("*.py"))


def module_path(module: str) -> Path:
    """Where a module stands, seen from the root of the checkout."""
    return Path(PACKAGE, *module.split(".")).with_suffix(".py")


def find_mutants(root: Path, module: str, only: Container[tuple[str, str]] | None = None) -> list[Mutant]:
    """Every mutant of a module, in the order of its text; or only those of these units and operators."""
    tree = cst.parse_module((root / module_path(module)).read_text(encoding="utf-8"))
    mutants = []
    seen: Counter[Change] = Counter()
    for name, unit in _units(tree.body):
        before = tree.code_for_node(unit)
        for operator, original, mutated in _mutations(unit):
            if only is not None and (name, operator) not in only:
                continue
            after = tree.code_for_node(unit.deep_replace(original, mutated))
            was, now = _changed_lines(before, after)
            change = Change(module, name, operator, was, now)
            seen[change] += 1
            numbered = Change(module, name, operator, was, now, seen[change])
            mutants.append(Mutant(numbered, tree, original, mutated))
    return mutants


def _units(body: tuple[cst.CSTNode, ...], within: str = "") -> Iterator[tuple[str, Unit]]:
    """Functions, methods, and the statements beside them, each with its name."""
    for statement in body:
        if isinstance(statement, cst.ClassDef):
            yield from _units(tuple(statement.body.body), f"{within}{statement.name.value}.")
        elif isinstance(statement, cst.FunctionDef):
            yield f"{within}{statement.name.value}", statement
        elif isinstance(statement, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            name = _name_that_is_set(statement)
            if name not in _NAMES_LEFT_ALONE:
                yield f"{within}{name or '(module)'}", statement


def _name_that_is_set(statement: cst.CSTNode) -> str | None:
    match statement:
        case cst.SimpleStatementLine(body=[cst.Assign(targets=[cst.AssignTarget(target=cst.Name() as name)])]):
            return str(name.value)
        case cst.SimpleStatementLine(body=[cst.AnnAssign(target=cst.Name() as name)]):
            return str(name.value)
    return None


def _mutations(unit: Unit) -> Iterator[tuple[str, cst.CSTNode, cst.CSTNode]]:
    """Each operator on each node, children behind their parents: the operator, the node, and what it becomes."""
    nodes: list[cst.CSTNode] = [unit]
    while nodes:
        node = nodes.pop()
        if _is_left_alone(node):
            continue
        nodes += reversed(node.children)
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for mutated in operator(node):
                    yield operator.__name__.removeprefix("operator_"), node, mutated


def _is_left_alone(node: cst.CSTNode) -> bool:
    """Whether there is nothing in it that runs."""
    match node:
        case cst.Annotation() | cst.Decorator() | cst.Import() | cst.ImportFrom():
            return True
        case cst.AnnAssign(annotation=cst.Annotation(annotation=cst.Name(value="TypeAlias"))):
            return True
        case cst.Assign(value=cst.Call(func=cst.Name(value="TypeVar"))):
            return True
        case cst.Call(func=cst.Name(value=name)):
            return name in _CALLS_LEFT_ALONE
    return False


def _changed_lines(before: str, after: str) -> tuple[str, str]:
    """The lines of two texts that differ, from the first to the last, without what indents them all."""
    old, new = before.splitlines(), after.splitlines()
    begin = _count_equal(old, new)
    end = _count_equal(old[begin:][::-1], new[begin:][::-1])
    return _text(old[begin : len(old) - end]), _text(new[begin : len(new) - end])


def _count_equal(some: list[str], others: list[str]) -> int:
    """How many of the first lines are equal."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False)))


def _text(lines: list[str]) -> str:
    return dedent("\n".join(lines)).strip("\n")
