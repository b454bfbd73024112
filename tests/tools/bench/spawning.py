"""Spawns, at the spawner: stock KubeSpawner's, ours, and those of a hook that reads and parses on the event loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import time
from types import SimpleNamespace
from typing import Any

import kubernetes
import yaml
from kubespawner import KubeSpawner
from kubespawner.clients import load_config
from traitlets.config import Config

from bench.documents import make_subject
from bench.farside import CONFIGMAP, KEY, LABEL, NAMESPACE, FarSide
from bench.measuring import StallWatch
from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.decide.matching import Subject
from profiled_spawner.sources.cache import Snapshot
from sandbox.waiting import PATIENCE

_numbers = itertools.count()


class BlockingKubeSpawner(KubeSpawner):
    """What a hook does that was written in an afternoon: a synchronous client and `yaml.safe_load`, at every start.

    Attributes:
        core: The client, made once.
    """

    core: kubernetes.client.CoreV1Api

    async def start(self) -> Any:
        """Reads the document, and sets traits from the profiles that match."""
        configmap = self.core.read_namespaced_config_map(CONFIGMAP, NAMESPACE)
        for profile in yaml.safe_load(configmap.data[KEY])["profiles"]:
            if self.user.name in profile["users"] and self.image in profile["images"]:
                self.environment |= {name: str(value) for name, value in profile["env"].items()}
        return await super().start()


def use(far_side: FarSide) -> None:
    """Makes all spawners, and the synchronous client, find the far side. No other one is used any more."""
    logging.getLogger("kubespawner").setLevel(logging.ERROR)
    load_config.cache_clear()
    # They are the class's own, and those of an event loop that has ended would be waited for.
    KubeSpawner.reflectors.clear()
    kubernetes.config.load_kube_config(str(far_side.kubeconfig))
    BlockingKubeSpawner.core = kubernetes.client.CoreV1Api()


def make_spawner(spawner_class: type[KubeSpawner], subject: Subject) -> KubeSpawner:
    """Makes a spawner as a hub does, but for the hub. No two share a pod's name."""
    config = Config()
    config.KubeSpawner.update(PATIENCE, namespace=NAMESPACE, image=subject.image)
    config.KubeSpawner.pod_name_template = f"jupyter-{next(_numbers)}"
    config.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
    user = SimpleNamespace(
        name=subject.user, id=1, url=f"/user/{subject.user}/", escaped_name=subject.user, groups=list[Any]()
    )
    spawner = spawner_class(_mock=True, config=config, user=user)
    # Its own is a logger for each spawner's class; a hub's is one, at INFO, into a file.
    spawner.log = _log
    return spawner


async def configure_stock(subject: Subject) -> type[KubeSpawner]:
    """Returns a stock KubeSpawner whose own settings give a subject's server what its profiles give it."""
    pod = await make_spawner(ProfiledKubeSpawner, subject).get_pod_manifest()
    (container,) = pod.spec.containers
    limits = container.resources.limits
    env = {variable.name: variable.value for variable in container.env}

    class ConfiguredKubeSpawner(KubeSpawner):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.mem_limit, self.cpu_limit = limits["memory"].removesuffix("i"), float(limits["cpu"])
            self.environment = {name: value for name, value in env.items() if name not in self.get_env()}
            self.extra_annotations = pod.metadata.annotations

    stock = await make_spawner(ConfiguredKubeSpawner, subject).get_pod_manifest()
    # CPU_LIMIT is 1 and 1.0.
    assert {variable.name for variable in stock.spec.containers[0].env} == set(env)
    assert stock.metadata.annotations == pod.metadata.annotations
    return ConfiguredKubeSpawner


async def cpu_of_spawns(far_side: FarSide, spawner_class: type[KubeSpawner], spawns: int) -> float:
    """Starts so many servers at once, and gives the milliseconds of CPU that each costs the hub's process."""
    spawners = _make_spawners(spawner_class, spawns)
    gc.collect()  # else its cost falls on one burst and not on the next
    began = time.process_time()
    await _start(spawners)
    took = time.process_time() - began
    await _forget(far_side, spawners)
    return took / spawns * 1e3


async def cpu_and_stall_of_spawns(
    far_side: FarSide, spawner_class: type[KubeSpawner], spawns: int
) -> tuple[float, float]:
    """Both at once, for what takes minutes: watching costs CPU itself."""
    spawners = _make_spawners(spawner_class, spawns)
    gc.collect()
    async with StallWatch() as watch:
        began = time.process_time()
        await _start(spawners)
        took = time.process_time() - began
    await _forget(far_side, spawners)
    return took / spawns * 1e3, watch.longest * 1e3


async def stall_of_spawns(far_side: FarSide, spawner_class: type[KubeSpawner], spawns: int) -> float:
    """Starts so many servers at once, and gives the longest that the event loop stood still, in milliseconds."""
    _, stall = await cpu_and_stall_of_spawns(far_side, spawner_class, spawns)
    return stall


def _make_spawners(spawner_class: type[KubeSpawner], spawns: int) -> list[KubeSpawner]:
    # Of one user, whom a profile matches in a document of any size.
    return [make_spawner(spawner_class, make_subject(0)) for _ in range(spawns)]


async def _start(spawners: list[KubeSpawner]) -> None:
    await asyncio.gather(*(spawner.start() for spawner in spawners))


async def _forget(far_side: FarSide, spawners: list[KubeSpawner]) -> None:
    await far_side.delete_pods()
    while spawners[0].pod_reflector.pods:
        await asyncio.sleep(0.02)


async def make_manifests(spawner_class: type[KubeSpawner], spawns: int) -> float:
    """The CPU time that each of so many spawns at once takes for its manifest alone, and for what that needs."""
    spawners = _make_spawners(spawner_class, spawns)
    gc.collect()
    began = time.process_time()
    await asyncio.gather(*(spawner.get_pod_manifest() for spawner in spawners))
    return (time.process_time() - began) / spawns


async def cpu_of_choosing(snapshot: Snapshot, options: dict[str, Any], spawns: int) -> float:
    """The milliseconds of CPU from the snapshot to the manifest, one start after the other, for each of so many."""
    spawners = _make_spawners(ProfiledKubeSpawner, spawns)
    gc.collect()
    began = time.process_time()
    for spawner in spawners:
        spawner.snapshot, spawner.user_options = snapshot, options
        await spawner.load_user_options()
        await spawner.get_pod_manifest()
    return (time.process_time() - began) / spawns * 1e3


async def read_profiles(spawner: ProfiledKubeSpawner) -> float:
    """How long a spawn waits for its profiles."""
    began = time.perf_counter()
    await spawner.read_profiles()
    return time.perf_counter() - began


async def get_configmap(spawner: KubeSpawner) -> float:
    """How long one GET through the same client takes, the body included."""
    began = time.perf_counter()
    response = await spawner.api.read_namespaced_config_map(CONFIGMAP, NAMESPACE, _preload_content=False)
    async with response:
        await response.read()
    return time.perf_counter() - began


async def list_configmaps(spawner: KubeSpawner) -> float:
    """How long one LIST of the selected ConfigMaps through the same client takes, the body included."""
    began = time.perf_counter()
    response = await spawner.api.list_namespaced_config_map(NAMESPACE, label_selector=LABEL, _preload_content=False)
    async with response:
        await response.read()
    return time.perf_counter() - began


_log = logging.getLogger("bench.hub")
_log.setLevel(logging.INFO)
_log.propagate = False
_log.addHandler(logging.StreamHandler(open("/dev/null", "w")))  # noqa: SIM115  as long as the process
