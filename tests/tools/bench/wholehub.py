"""A whole hub in a process of its own, and many spawns through its REST API: ``python -m bench.wholehub``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from kubernetes_asyncio.config import kube_config
from traitlets.config import Config

from bench.documents import make_subject
from bench.farside import NAMESPACE
from sandbox.inprocess import InProcessHub


@dataclass(frozen=True)
class Load:
    """What the spawns cost the hub.

    Attributes:
        cpu_seconds: CPU time of its process, that of the client in it included.
        wall_seconds: From the first request until every server was ready.
    """

    cpu_seconds: float
    wall_seconds: float


async def run(kubeconfig: Path, spawner: str, spawns: int) -> Load:
    """Starts a hub, and so many servers on it at once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.wholehub", str(kubeconfig), spawner, str(spawns)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return Load(**json.loads(output))


async def _load(spawner: str, spawns: int) -> Load:
    config = Config()
    config.JupyterHub.update(spawner_class=spawner, concurrent_spawn_limit=0, log_level=logging.WARNING)
    config.KubeSpawner.namespace = NAMESPACE
    config.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
    subjects = [make_subject(number) for number in range(spawns)]
    config.KubeSpawner.image = subjects[0].image
    with tempfile.TemporaryDirectory() as directory:
        async with InProcessHub(Path(directory), config) as hub:
            for subject in subjects:
                await hub.add_user(subject.user)
            began, cpu_began = time.perf_counter(), time.process_time()
            await asyncio.gather(*(hub.api("POST", f"/users/{subject.user}/server") for subject in subjects))
            # The route is what comes last.
            while sum(route.startswith("/user/") for route in hub.app.proxy.routes) < spawns:
                await asyncio.sleep(0.05)
            return Load(time.process_time() - cpu_began, time.perf_counter() - began)


if __name__ == "__main__":
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = sys.argv[1]
    print(json.dumps(asdict(asyncio.run(_load(sys.argv[2], int(sys.argv[3]))))), flush=True)
