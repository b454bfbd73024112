"""`observe_only`: everything is read, decided and told, and every server starts as KubeSpawner alone would start it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiException
from kubespawner import KubeSpawner
from traitlets.config import Config

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.errors import DocumentError
from profiled_spawner.hub.spawner import StartRefusedError
from profiled_spawner.metrics import SPAWNS
from profiled_spawner.sources.cache import DocumentCache
from sandbox.api import EmbeddedAPI, Fault
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import SHORT_SECONDS, Clock, until

from ..conftest import CONFIGMAP, NAMESPACE, MakeSpawner, WriteProfiles
from ..document.test_examples import VALID
from .test_spawner import DOCUMENT, FORECAST, LARGE, SIZES

OBSERVED = "profiled-spawner/observed"
NOT_READ = {"refused": "its settings could not be read"}
NOT_TOGETHER = {"refused": "its settings do not go together"}
# The hub's own settings, with something of each kind that profiles change.
SETTINGS = Config(
    KubeSpawner={
        "mem_guarantee": "1G",
        "cpu_limit": 3,
        "environment": {"OWN": "{username}", "GLOBAL": "the-hubs"},
        "extra_annotations": {"example.org/own": "yes"},
        "extra_labels": {"own": "yes"},
        "node_selector": {"pool": "users"},
        "tolerations": [{"key": "users", "operator": "Exists"}],
        "extra_resource_limits": {"nvidia.com/gpu": 1},
        "volumes": [{"name": "home", "emptyDir": {}}],
        "volume_mounts": [{"name": "home", "mountPath": "/home"}],
    }
)


@pytest.fixture(autouse=True)
def running(kubelet: PaperKubelet) -> None:
    """Every test has a kubelet."""


def stock(spawner: ProfiledKubeSpawner) -> KubeSpawner:
    """KubeSpawner alone, for the same server."""
    return KubeSpawner(
        _mock=True,
        config=spawner.config,
        user=spawner.user,
        image=spawner.image,
        user_options=spawner.user_options,
    )


def take_observed(manifest: dict[str, Any]) -> Any:
    """Takes the annotation out of a pod."""
    return json.loads(manifest["metadata"]["annotations"].pop(OBSERVED))


async def start(api: EmbeddedAPI, spawner: KubeSpawner) -> dict[str, Any]:
    """Starts a server, stops it again, and returns the pod that was created, without what tells it from another."""
    await spawner.start()
    pod = api.get("pods", spawner.namespace, spawner.pod_name)
    await spawner.stop(now=True)
    del pod["status"]
    for name in ("uid", "resourceVersion", "creationTimestamp"):
        del pod["metadata"][name]
    return pod


def counts() -> dict[str, float]:
    (spawns,) = SPAWNS.collect()
    return {sample.labels["outcome"]: sample.value for sample in spawns.samples if sample.name.endswith("_total")}


def grown(before: dict[str, float]) -> dict[str, float]:
    return {outcome: value - before[outcome] for outcome, value in counts().items() if value != before[outcome]}


@dataclass(frozen=True)
class Situation:
    """What a start meets.

    Attributes:
        name: What it is.
        observed: What the annotation says; ``{revision}`` stands for the revision of the document.
        told: What a line of the log begins with.
        document: What the ConfigMap holds; None if there is no ConfigMap.
        before: What it held before.
        team: What a selected ConfigMap holds; None if there is none.
        level: Of that line.
        forbidden: Whether the hub may not read it.
        traits: Of the spawner.
    """

    name: str
    observed: dict[str, Any]
    told: str
    document: str | None = DOCUMENT
    before: str = ""
    team: str | None = None
    level: str = "WARNING"
    forbidden: bool = False
    traits: dict[str, Any] = field(default_factory=dict)


SOURCE = "{revision}"
TWO_VOLUMES = "profiles: [{name: team, volumes: [{name: home, mountPath: /team, emptyDir: {}}]}]"
TOO_MANY = (
    "profiles: ["
    + ", ".join(
        f"{{name: {name}, env: {{{', '.join(f'{name}{number}: x' for number in range(300))}}}}}" for name in "AB"
    )
    + "]"
)
BROKEN = "profiles: [{nmae: x, env: {FOO: canary-value}}]"
SITUATIONS = [
    Situation(
        "a document",
        {"applied": ["globals", "forecasting"], "source": SOURCE},
        f'Would apply to ada on {FORECAST}: ["globals", "forecasting"]; env ["BRACES", "GLOBAL", "SHARED"]; '
        "2 GiB of memory (1 GiB guaranteed), 1 CPU, 1 GPU; from configmap/",
        level="INFO",
    ),
    Situation(
        "none that matches",
        {"applied": [], "source": SOURCE},
        f"Would apply to ada on {FORECAST}: []; env []; ",
        document="profiles: [{users: [grace]}]",
        level="INFO",
    ),
    Situation(
        "a guarantee above a limit",
        {"applied": ["big", "small"], "source": SOURCE},
        "If applied to ada, memory: the guarantee of 2Gi (big) is above the limit of 512Mi (small)",
        document="profiles: [{name: big, resources: {mem_guarantee: 2Gi}}, "
        "{name: small, resources: {mem_limit: 512Mi}}]",
    ),
    *(
        Situation(
            f"no document, {policy}",
            NOT_READ,
            "Would start no server, because there is no ConfigMap ",
            document=None,
            traits={"failure_policy": policy},
        )
        for policy in ("last-good", "fail")
    ),
    Situation(
        "no document, ignore",
        {"applied": [], "source": None},
        "Would start servers without its profiles, as failure_policy says, because there is no ConfigMap ",
        document=None,
        traits={"failure_policy": "ignore"},
    ),
    Situation("not valid", NOT_READ, f"Would start no server, because configmap/jhub/{CONFIGMAP}@", document=BROKEN),
    Situation(
        "not valid any more",
        {"applied": ["globals", "forecasting"], "source": SOURCE},
        f"Would use the last good profiles, configmap/jhub/{CONFIGMAP}@",
        document=BROKEN,
        before=DOCUMENT,
    ),
    Situation("forbidden", NOT_READ, "Would start no server, because the hub may not read ", forbidden=True),
    Situation(
        "a size",
        {"applied": ["size Large"], "source": SOURCE},
        f'Would apply to ada on {FORECAST}: ["size Large"]; env ["A"]; 8 GiB of memory',
        document=SIZES.replace("users: [ada]", "users: [grace]"),
        level="INFO",
        traits={"user_options": LARGE},
    ),
    Situation(
        "a size that is not there",
        {"refused": "what was chosen is not offered"},
        "Would not start ada, because there is no size 'Huge' for ada; choose one of: default, Large",
        document=SIZES,
        traits={"user_options": {"profiled": {"size": "Huge"}}},
    ),
    Situation(
        "two volumes of one name",
        NOT_TOGETHER,
        "Would not start ada, because team has a volume 'home', and so has the pod already",
        document=TWO_VOLUMES,
    ),
    Situation(
        "more than a server can have",
        NOT_TOGETHER,
        "Would not start ada, because the profiles that match give 600 variables, and a server can have 300",
        document=TOO_MANY,
    ),
    Situation(
        "a selected ConfigMap that is not valid",
        {"applied": ["globals", "forecasting"], "source": SOURCE},
        "Would leave out configmap/jhub/team, because ",
        team=BROKEN,
        traits={"configmap_label_selector": "team=yes"},
    ),
]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
async def test_a_server_starts_as_it_would_without_us_and_what_would_be_is_told(
    api: EmbeddedAPI,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    caplog: pytest.LogCaptureFixture,
    situation: Situation,
) -> None:
    traits = {"image": FORECAST, "config": SETTINGS, **situation.traits}
    revision = ""
    for document in filter(None, (situation.before, situation.document)):
        written = write_profiles(document)
        if document != BROKEN:
            revision = f"configmap/{NAMESPACE}/{CONFIGMAP}@{written['metadata']['resourceVersion']}"
        if situation.before == document:
            await make_spawner("ada", **traits).get_pod_manifest()
    if situation.team is not None:
        write_profiles(situation.team, name="team", labels={"team": "yes"})
    if situation.forbidden:
        api.deny("get", "configmaps")
    spawner = make_spawner("ada", observe_only=True, **traits)
    before = counts()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        starting = asyncio.create_task(start(api, spawner))
        messages = [event["message"] async for event in spawner.progress()]
        pod = await starting
    lines = [f"{record.levelname}: {record.getMessage()}" for record in caplog.records]

    expected = {name: value if value != SOURCE else revision for name, value in situation.observed.items()}
    assert take_observed(pod) == expected
    assert pod == await start(api, stock(spawner))
    assert not [name for name in pod["metadata"]["annotations"] if name.startswith("profiled-spawner/")]
    assert [line for line in lines if line.startswith(f"{situation.level}: {situation.told}")] != [], lines
    assert [line for line in lines if line.startswith("ERROR")] == []
    assert grown(before) == {"observed": 1}
    assert [message for message in messages if "Profiles applied" in message] == []
    assert "canary" not in caplog.text


@pytest.mark.parametrize("path", VALID)
async def test_no_example_changes_a_manifest_and_each_is_observed_as_it_would_be_applied(
    make_spawner: MakeSpawner, path: Path
) -> None:
    spawner = make_spawner("ada", ("forecasters",), SETTINGS, profiles_file=str(path), observe_only=True)
    serialize = spawner.api.api_client.sanitize_for_serialization
    pod = serialize(await spawner.get_pod_manifest())
    observed = take_observed(pod)
    assert pod == serialize(await stock(spawner).get_pod_manifest())

    spawner.observe_only = False
    try:
        given = serialize(await spawner.get_pod_manifest())["metadata"]["annotations"]
    except StartRefusedError:
        assert observed == {"refused": "it does not fit into a quota"}
        assert path.stem == "quotas"
        return
    applied, source = json.loads(given["profiled-spawner/applied"]), given["profiled-spawner/source"]
    assert observed == {"applied": applied, "source": source}


async def test_the_annotation_is_bounded(make_spawner: MakeSpawner, write_profiles: WriteProfiles) -> None:
    write_profiles("profiles:\n" + "".join(f"- name: {number}{'é' * 900}\n" for number in range(300)))
    pod = await make_spawner("ada", observe_only=True).get_pod_manifest()
    text = pod.metadata.annotations[OBSERVED]
    assert len(text.encode()) < 5000
    assert json.loads(text)["applied"][-1] == "…"


def fail(*_: object, **__: object) -> Any:
    raise KeyError("canary-value")


@pytest.mark.parametrize(
    ("where", "name", "kind"),
    [
        ("profiled_spawner.hub.spawner.read_documents", "", "KeyError"),
        ("profiled_spawner.hub.spawner.choose", "", "KeyError"),
        ("profiled_spawner.hub.spawner.match_profiles", "", "KeyError"),
        ("profiled_spawner.hub.spawner.inject_profile", "", "KeyError"),
        ("profiled_spawner.hub.spawner.describe_resources", "", "KeyError"),
        (DocumentCache, "update", "CancelledError"),
    ],
)
async def test_a_defect_of_ours_fails_no_start(
    api: EmbeddedAPI,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    kind: str,
) -> None:
    write_profiles(DOCUMENT)
    monkeypatch.setattr(*([where, name] if name else [where]), fail)
    spawner = make_spawner("ada", observe_only=True)
    pod = await start(api, spawner)
    assert take_observed(pod) == {"refused": f"a defect of profiled-spawner ({kind})"}
    assert pod == await start(api, stock(spawner))
    assert f"Would not start ada, because of a defect of profiled-spawner ({kind}); please report it" in caplog.text
    assert "canary" not in "".join(record.getMessage() for record in caplog.records if record.name != "asyncio")


@pytest.mark.parametrize("effect", ["hang", "close"])
async def test_reading_holds_up_a_start_for_one_request_at_most(
    api: EmbeddedAPI,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
    effect: Any,
) -> None:
    write_profiles(DOCUMENT)
    fault = Fault(effect, resource="configmaps", times=None)
    api.faults.append(fault)
    # Nothing else ends: what a start would wait is much longer.
    spawner = make_spawner("ada", observe_only=True, k8s_api_request_timeout=SHORT_SECONDS)
    starting = asyncio.create_task(start(api, spawner))
    await until(lambda: any(request.resource == "configmaps" for request in api.requests))
    clock.forward(0.9 * SHORT_SECONDS)
    assert take_observed(await starting) == NOT_READ
    assert "Would start no server, because no answer for configmap/" in caplog.text
    # Less than a start has altogether, and some of that is for the file of last good documents.
    (waited,) = re.findall(r"within (\d+) s, retries included", caplog.text)
    assert SHORT_SECONDS / 2 < int(waited) < SHORT_SECONDS


async def test_whatever_else_hangs_ends_with_it(
    api: EmbeddedAPI,
    make_spawner: MakeSpawner,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        began.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("profiled_spawner.hub.spawner.read_documents", hang)
    spawner = make_spawner("ada", observe_only=True, k8s_api_request_timeout=SHORT_SECONDS)
    starting = asyncio.create_task(start(api, spawner))
    await began.wait()
    clock.forward(SHORT_SECONDS)
    assert take_observed(await starting) == NOT_READ
    assert f"Would not start ada, because the profiles could not be read within {SHORT_SECONDS} s" in caplog.text


async def test_a_start_that_is_cancelled_ends(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    api.faults.append(Fault("hang", resource="configmaps", times=None))
    asking = asyncio.create_task(make_spawner("ada", observe_only=True).get_pod_manifest())
    await until(lambda: any(request.resource == "configmaps" for request in api.requests))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("status", [403, 422, 500])
async def test_a_pod_that_is_refused_is_kubespawners_own_failure(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, status: int
) -> None:
    write_profiles(DOCUMENT)
    api.faults.append(Fault("status", status=status, verb="create", resource="pods"))
    spawner = make_spawner("ada", observe_only=True, consecutive_failure_limit=5)
    before = counts()
    with pytest.raises(ApiException):
        await spawner.start()
    assert grown(before) == {}
    assert spawner.consecutive_failure_limit == 5


class TestNothingIsOffered:
    @pytest.mark.parametrize("form", ["", "<b>ours</b>", lambda spawner: f"<b>{spawner.user.name}</b>"])
    async def test_the_form_is_the_hubs_own_and_nothing_is_read_for_it(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, form: Any
    ) -> None:
        write_profiles(SIZES)
        config = Config(KubeSpawner={"options_form": form})
        spawner = make_spawner("ada", config=config, observe_only=True, user_options={"profiled": {"size": "Huge"}})
        assert await spawner.get_options_form() == (await stock(spawner).get_options_form() or "")
        assert not [request for request in api.requests if request.resource == "configmaps"]

    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_options_are_what_the_hubs_own_function_makes_of_them(
        self, make_spawner: MakeSpawner, asynchronous: bool
    ) -> None:
        def interpret(form: dict[str, list[str]]) -> dict[str, Any]:
            return {"seen": form}

        async def interpret_later(form: dict[str, list[str]]) -> dict[str, Any]:
            return interpret(form)

        spawner = make_spawner(
            "ada", observe_only=True, options_from_form=interpret_later if asynchronous else interpret
        )
        form = {"size": ["theirs"], "profiled-size": ["Large"]}
        options_of: Callable[[Any], Awaitable[Any]]
        for options_of in (spawner.run_options_from_form, spawner.options_from_query):
            assert await options_of(form) == {"seen": form}

    async def test_an_option_of_profile_list_is_left_to_it(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        choices = {
            name: {"display_name": name, "kubespawner_override": {"environment": {"CHOSEN": name}}}
            for name in ("small", "Large")
        }
        option = {"size": {"display_name": "Size", "choices": choices}}
        config = Config(
            KubeSpawner={"profile_list": [{"display_name": "Only", "slug": "only", "profile_options": option}]}
        )
        options = {"profile": "only", "size": "Large"}
        spawner = make_spawner("ada", config=config, observe_only=True, user_options=options)
        pod = await start(api, spawner)
        assert take_observed(pod)["applied"] == ["ours"]
        assert {"name": "CHOSEN", "value": "Large"} in pod["spec"]["containers"][0]["env"]
        assert pod == await start(api, stock(spawner))


async def test_what_is_good_is_kept_for_the_first_real_day(
    make_spawner: MakeSpawner, write_profiles: WriteProfiles, tmp_path: Path
) -> None:
    write_profiles(DOCUMENT)
    path = tmp_path / "last-good.json"
    await make_spawner("ada", observe_only=True).get_pod_manifest()
    await until(lambda: path.exists() and "from-globals" in path.read_text())
    write_profiles(BROKEN)
    pod = await make_spawner("ada").get_pod_manifest()
    assert "GLOBAL" in {variable.name for variable in pod.spec.containers[0].env}


async def test_a_start_beside_it_that_is_real_is_refused_and_told_as_such(
    make_spawner: MakeSpawner, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    write_profiles(BROKEN)
    observed, real = await asyncio.gather(
        make_spawner("ada", observe_only=True).get_pod_manifest(),
        make_spawner("grace").get_pod_manifest(),
        return_exceptions=True,
    )
    assert OBSERVED in observed.metadata.annotations
    assert isinstance(real, StartRefusedError)
    assert not isinstance(real, DocumentError)
    lines = sorted(f"{record.levelname}: {record.getMessage()[:28]}" for record in caplog.records)
    assert lines == ["ERROR: Starting no server, because ", "WARNING: Would start no server, becau"]
