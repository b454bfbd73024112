"""How much a document and a start may come to: what keeps the cost of both within bounds.

No document that somebody wrote for people comes near one of these. `docs/reference.md` has them in a table.
"""

from __future__ import annotations

__all__ = ["MAX_EXPRESSIONS", "MAX_TERMS"]

# Of one start, all its profiles together.
MAX_TERMS = 100
"""Alternatives of a node affinity that is required."""
MAX_EXPRESSIONS = 1_000
"""Expressions in all these alternatives, which name again what the alternatives have in common."""
