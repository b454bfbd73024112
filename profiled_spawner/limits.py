"""How much a document and a start may come to: what keeps the cost of both within bounds.

No document that somebody wrote for people comes near one of these. `docs/reference.md` has them in a table.
"""

from __future__ import annotations

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_EXPANDED_CHARACTERS", "MAX_EXPRESSIONS", "MAX_NODES", "MAX_TERMS"]

# Of a document.
MAX_BYTES = 2**20
"""What a ConfigMap can hold: https://kubernetes.io/docs/concepts/configuration/configmap/"""
MAX_DEPTH = 50
MAX_NODES = 250_000
"""Nodes, counting those behind an alias each time that it is used."""
MAX_EXPANDED_CHARACTERS = 4 * 2**20
"""Characters of text, counted likewise."""

# Of one start, all its profiles together.
MAX_TERMS = 100
"""Alternatives of a node affinity that is required."""
MAX_EXPRESSIONS = 1_000
"""Expressions in all these alternatives, which name again what the alternatives have in common."""
