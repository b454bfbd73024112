"""Bounds a selected ConfigMap to what the main document allows its team, or says where it exceeds that."""

from __future__ import annotations

from collections.abc import Sequence

from ..decide.teams import Violation, find_violations
from ..document.model import Document, Team
from ..document.parser import MAX_DIAGNOSTICS
from ..document.places import Places
from ..document.yaml_tree import read_tree, release_tree
from ..errors import Diagnostic, DocumentError, format_path
from .extract import Text

__all__ = ["NO_TEAM", "bound_document"]

NO_TEAM = "no team of the main ConfigMap has it; name it under 'configmaps' of its team, or remove its label"
"""Why a selected ConfigMap is not used if the main document has teams, and it is no team's."""


def bound_document(document: Document, name: str, team: Team, text: Text, *, source: str = "") -> Document:
    """Returns the document of a team's ConfigMap, whose entries are for the team's members only.

    Args:
        document: The document.
        name: The ConfigMap's name.
        team: The team.
        text: What the document was read from.
        source: Where it was read from, for the error's message.

    Raises:
        DocumentError: The document has something that the team may not have. It holds every such error with its place,
            up to `MAX_DIAGNOSTICS`.
    """
    violations = find_violations(document, team)
    if not violations:
        return document.of_configmap(name, team)
    raise _explain(violations, text, source)


def _explain(violations: Sequence[Violation], text: Text, source: str) -> DocumentError:
    root = read_tree(text.text, line_offset=text.line_offset, column_offset=text.column_offset)
    places = Places(root)
    # An alias repeats a node, which has one place.
    found: dict[tuple[int, int, str], Diagnostic] = {}
    for violation in violations:
        path, node = places.find(violation.path)
        line, column = (node.line, node.column) if node else (0, 0)
        diagnostic = Diagnostic(violation.what, format_path(path), line, column)
        found.setdefault((line, column, violation.what), diagnostic)
    release_tree(root)
    in_order = [found[key] for key in sorted(found)]
    return DocumentError(in_order[:MAX_DIAGNOSTICS], omitted=len(in_order[MAX_DIAGNOSTICS:]), source=source)
