"""What can go wrong with reading and with the document, and what should be told of it; and the lanes it happens in."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["EXAMPLES", "GOOD", "KEY", "LANES", "ROWS", "Lane", "Row", "select"]

KEY = "jupyterhub-singleuser-profiles.yaml"
GOOD = "profiles: [{name: good, env: {MARK: canary-value}}]"


@dataclass(frozen=True)
class Lane:
    """A failure policy, and whether the hub has read a good document before the fault comes."""

    policy: Literal["last-good", "fail", "ignore"]
    good_before: bool

    def __str__(self) -> str:
        return f"{self.policy}-{'after-a-good-read' if self.good_before else 'nothing-read-yet'}"


LANES = [Lane(policy, good_before) for policy in ("last-good", "fail", "ignore") for good_before in (True, False)]


@dataclass(frozen=True)
class Row:
    """A fault, as it happens to one ConfigMap.

    Attributes:
        title: What it is, for people.
        told: Part of what the log says of it.
        outcome: How reading it ends: an outcome of ``reads_total``, or ``invalid`` for a document that was read.
        content: What the ConfigMap holds; None if there is no ConfigMap.
        key: Where it holds it.
        effect: What happens to requests for it, as arguments of `sandbox.api.Fault`.
        unreachable: The scheme of the server that is asked in vain in place of the API server.
        retried: Whether requests are sent again until time is up.
        restart: Whether many starts wait for it, and the API server goes away and comes back meanwhile.
        hub_restarts: Whether the hub has restarted before the start, and knows what its file holds alone.
    """

    title: str
    told: str
    outcome: Literal["ok", "unavailable", "refused", "missing", "invalid"]
    content: str | bytes | None = field(default=GOOD, repr=False)
    key: str = KEY
    effect: dict[str, Any] = field(default_factory=dict, hash=False)
    unreachable: str = ""
    retried: bool = False
    restart: bool = False
    hub_restarts: bool = False

    def __str__(self) -> str:
        return self.title


def _status(code: int, **more: int) -> dict[str, Any]:
    return {"effect": "status", "status": code, **more}


def _garbage() -> str:
    return "".join(random.Random(1).choices(string.printable, k=2**20))


def _alias_bomb() -> str:
    levels = "\n".join(f"- &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 40))
    return f"profiles:\n- &a0 {{env: {{A: b}}}}\n{levels}\n"


def _example(path: Path) -> Row:
    try:
        return Row(path.name, "error", "invalid", path.read_bytes().decode())
    except UnicodeDecodeError:
        # A ConfigMap's data is text; kubectl puts what is none under binaryData.
        return Row(path.name, "under binaryData", "missing", path.read_bytes())


EXAMPLES = [_example(path) for path in sorted((Path(__file__).parents[2] / "invalid-examples").glob("*.yaml"))]
ROWS = [
    Row("no fault, for comparison", "", "ok"),
    Row("connection refused", "could not be asked for", "unavailable", unreachable="http", retried=True),
    Row(
        "connection reset before the answer",
        "could not be asked for",
        "unavailable",
        effect={"effect": "close"},
        retried=True,
    ),
    Row(
        "connection reset during the body",
        "could not be asked for",
        "unavailable",
        effect={"effect": "cut"},
        retried=True,
    ),
    Row("truncated body", "is no ConfigMap", "unavailable", effect={"effect": "truncate"}),
    Row("no answer", "no answer for", "unavailable", effect={"effect": "hang"}, retried=True),
    Row("401", "did not accept the hub's credentials", "refused", effect=_status(401)),
    Row("403", "add this rule to its Role", "refused", effect=_status(403)),
    Row("404", "there is no ConfigMap", "missing", content=None),
    Row("409", "answered 409", "unavailable", effect=_status(409)),
    Row("429 with Retry-After", "answered 429", "unavailable", effect=_status(429, retry_after=5), retried=True),
    Row("500", "answered 500", "unavailable", effect=_status(500), retried=True),
    Row("503", "answered 503", "unavailable", effect=_status(503), retried=True),
    Row("certificate that is not trusted", "CERTIFICATE_VERIFY_FAILED", "unavailable", unreachable="https"),
    Row("API server restarts during 200 starts", "", "ok", effect={"effect": "hang"}, restart=True),
    Row("document emptied", "empty; write 'profiles: []'", "invalid", ""),
    Row("key renamed", "has no key", "missing", key="profiles.yml"),
    Row("document replaced by binary data", "under binaryData", "missing", b"\xff\xfe\x00"),
    Row("1 MiB of garbage", "has 1 error", "invalid", _garbage()),
    Row("alias bomb", "with its aliases expanded", "invalid", _alias_bomb()),
    Row("brackets nested 1,000,000 deep", "levels deep", "invalid", "[" * 1_000_000),
    Row("hub restarted, document not valid", "unknown key", "invalid", "profiles: [{nmae: x}]", hub_restarts=True),
    Row(
        "hub restarted, connection refused",
        "could not be asked for",
        "unavailable",
        unreachable="http",
        retried=True,
        hub_restarts=True,
    ),
    *EXAMPLES,
]

_PARTS = {"all": slice(None), "some": slice(0, None, 16), "others": slice(8, None, 16)}


def select(part: str) -> list[Row]:
    """The rows with all invalid examples, or with some of them.

    To a hub, one text that is not valid is as another: what is wrong in each, and where, other tests tell. So a few are
    enough where time matters. Every fault is in each part, and so is every example that is not text: the page has
    those by name.

    Args:
        part: ``all``, ``some``, or ``others``, which has no example of ``some``.
    """
    texts = [row for row in EXAMPLES if row.outcome == "invalid"]
    left_out = set(texts) - set(texts[_PARTS[part]])
    return [row for row in ROWS if row not in left_out]
