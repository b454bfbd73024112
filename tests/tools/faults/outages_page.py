"""The last part of docs/faults.md, of what came of all outages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from .outages import Outage, OutageResult, Start
from .page import format_row

__all__ = ["format_starts", "list_rows", "render_outages"]

_INTRODUCTION = """\

## On a real API server

`make faults-cluster` runs a real etcd and kube-apiserver, and a hub with the real KubeSpawner that reaches them as it
would from a pod. It breaks them, or what the hub needs to reach them, and writes this part of the page. In each row,
{starts} people start servers: a quarter before the fault, half while it lasts, a quarter after it. For every fourth
person, `failure_policy` is `fail`; for the others, it is `last-good`. The document is edited all the time, so each pod
shows how old its document is. The hub's timeouts are long, so that a slow machine changes nothing. The tests do the
same with fewer people. Only the numbers may differ.

In every row:

- Every server that starts has the document as the API server had it when the start began, or a later one. After a
  restore of etcd, it is the restored document, even if another one had the same `resourceVersion`.
- The hub answers all the time. Only the last row needs a restart of the hub.
- After the fault, everybody can start a server. Starts that had failed are tried again, and succeed.
- When all servers have stopped, no quota counts anything, and no pod is left.
- A start that this package refuses does not count towards `consecutive_failure_limit`.

503: this package refused the start, because the document could not be read. 500: a request of KubeSpawner failed, for
the volume claim or the pod. JupyterHub counts that as a failure.

| fault | began before | began while it lasted | began after | the same with stock KubeSpawner, while it lasted |
|---|---|---|---|---|
"""

_NOTES = """
## What to know about these faults

- **The API server cannot be reached.** A start that has not read its document yet waits up to
  `k8s_api_request_retry_timeout` (30 seconds by default). If the API server answers by then, it goes on. With stock
  KubeSpawner, it fails at once. A start that has read its document fails like one of stock KubeSpawner, which does not
  repeat a request whose connection is lost.
- **The API server has just started.** For a moment, it does not know its Roles, and refuses everything with 403. If
  such a refusal follows within ten seconds of a failed request, the hub asks again. `reads_total` counts it as
  `refused`.
- **A pod without a server.** If the connection is lost while a pod is created, the pod may be there though the start
  has failed. JupyterHub does not know it, so no quota counts it. Its owner's next start replaces it. Stock
  KubeSpawner leaves such pods too. To find them, compare `kubectl get pods -l component=singleuser-server` with the
  servers on the admin page.
- **A restore of etcd.** Stop kube-apiserver first, and start it after the restore, as Kubernetes says. Servers that
  started after the copy have no pod any more: the hub notices when it polls. Servers that stopped after the copy have
  a pod again: a pod without a server, as above.
- **Tokens.** The hub reads its token again within a minute after the kubelet has renewed it. With a token that has
  expired, no server starts: `reads_total` counts `refused`, and the log asks to check the service account.
- **A new certificate authority.** The Kubernetes client reads `ca.crt` once. So after a rotation, restart the hub;
  until then, no server starts. To avoid that, let `ca.crt` have both authorities for a while, and restart the hub
  before the old one is removed.
- **Clocks.** Of this package, only `from` and `until` depend on the clock of the hub. While the clock is an hour fast
  or slow, a profile for this hour is not applied; after that it is. JupyterHub measures how long a start takes with
  this clock. So a start that waits for its pod while the clock steps far ahead is given up, also with stock
  KubeSpawner. The clock of kube-apiserver was not changed."""


def render_outages(results: Mapping[Outage, OutageResult], stock: Mapping[Outage, OutageResult], *, starts: int) -> str:
    """The last part of the page.

    Args:
        results: What came of each outage.
        stock: The same with stock KubeSpawner, for some.
        starts: How many people started servers in each.
    """
    rows = []
    for outage, result in results.items():
        cells = [format_starts(result.select(when)) for when in ("before", "meanwhile", "after")]
        compared = format_starts(stock[outage].select("meanwhile")) if outage in stock else ""
        rows.append(format_row(outage.title, *cells, compared))
    return _INTRODUCTION.format(starts=starts) + "\n".join(rows) + "\n" + _NOTES


def format_starts(starts: Sequence[Start]) -> str:
    """What came of starts, such as ``90 servers, 10 × 500``."""
    statuses = Counter(start.status for start in starts)
    servers = statuses.pop(201, 0)
    told = [f"{servers} server{'s' if servers > 1 else ''}"] if servers else []
    return ", ".join([*told, *(f"{count} × {status}" for status, count in sorted(statuses.items()))])


def list_rows(part: str) -> dict[str, list[str]]:
    """The rows of the table in this part: the other cells, without numbers of people, by title."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if line.startswith("| ")
    ]
    return {title: [re.sub(r"\d+ (servers?|×)", r"… \1", cell) for cell in cells] for title, *cells in rows[1:]}
