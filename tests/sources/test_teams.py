"""Teams: a selected ConfigMap gives nothing that the main document, as it is now, does not allow its team."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubernetes_asyncio.config import load_kube_config
from prometheus_client import REGISTRY

from profiled_spawner.decide.choices import find_offer
from profiled_spawner.decide.matching import Subject, match_profiles
from profiled_spawner.document.model import Document
from profiled_spawner.errors import SourceError
from profiled_spawner.sources import bounds, cache, last_good, several
from profiled_spawner.sources.cache import EscapingLog, Snapshot
from profiled_spawner.sources.configmap import ConfigMapSource, SelectedConfigMapsSource
from profiled_spawner.sources.file import FileSource
from profiled_spawner.sources.last_good import get_last_good_file
from profiled_spawner.sources.several import read_documents
from sandbox.api import EmbeddedAPI
from sandbox.waiting import HANG_SECONDS, SHORT_SECONDS, Clock, until

from ..conftest import API_SERVERS, CONFIGMAP, KEY, NAMESPACE, WriteProfiles, make_api_server

log = logging.getLogger("hub")

SELECTOR = "jupyterhub=singleuser-profiles"
LABELS = {"jupyterhub": "singleuser-profiles"}
BROKEN = "profiles: [{nmae: broken}]"

MEMBER = Subject("ada", frozenset({"forecasters"}), "nb", 0)
OTHER = Subject("eve", frozenset({"staff"}), "nb", 0)


def main(hard: str = "limits.memory: 8Gi", **more: str) -> str:
    """A main document with a team of the group forecasters."""
    keys = {"may": "[env, env_from, resources, sizes, images]", "hard": f"{{{hard}}}", "refers": "['t-*']", **more}
    said = "".join(f", {key}: {value}" for key, value in keys.items())
    return f"profiles: [{{name: globals}}]\nteams:\n- {{name: t, configmaps: [team], groups: [forecasters]{said}}}\n"


def memory(limit: str) -> str:
    return f"profiles: [{{name: {limit}, env: {{FOO: canary-value}}, resources: {{mem_limit: {limit}}}}}]"


class Hub:
    """What a hub's process does with the documents and the file."""

    def __init__(self, client: CoreV1Api, path: Path) -> None:
        self.path = path
        self.main: Any = ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, client, timeout_seconds=SHORT_SECONDS)
        self.selected = SelectedConfigMapsSource(NAMESPACE, SELECTOR, KEY, CONFIGMAP, client, SHORT_SECONDS)

    async def read(
        self, policy: Any = "last-good", timeout_seconds: float = HANG_SECONDS, purpose: Any = "start"
    ) -> Snapshot:
        try:
            return await read_documents(
                self.main,
                self.selected,
                policy=policy,
                timeout_seconds=timeout_seconds,
                log=EscapingLog(log),
                purpose=purpose,
                file=get_last_good_file(str(self.path)),
            )
        finally:
            await until(lambda: not any(file.is_writing for file in last_good.all_files.values()))

    async def labels(self, **kwargs: Any) -> list[str]:
        return [profile.label for profile in (await self.read(**kwargs)).document.profiles]

    @staticmethod
    def restart() -> None:
        """Forgets whatever the process knows."""
        cache.all_stores.clear()
        several.all_selections.clear()
        last_good.all_files.clear()


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


@pytest.fixture
async def hub(api: EmbeddedAPI, label_selectors: None, tmp_path: Path) -> AsyncIterator[Hub]:
    configuration = Configuration()
    await load_kube_config(client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield Hub(CoreV1Api(client), tmp_path / "last-good.json")
    Hub.restart()


@pytest.fixture
def write_team(write_profiles: WriteProfiles) -> Callable[..., Any]:
    def write(text: str, name: str = "team") -> Any:
        return write_profiles(text, name=name, labels=LABELS)

    return write


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines of the log since the last call."""
    caplog.set_level(logging.INFO, log.name)

    def lines() -> list[str]:
        told = [f"{record.levelname}: {record.getMessage()}" for record in caplog.records if record.name == log.name]
        # The file of last good documents has none of the teams yet.
        found = [line for line in told if "has no last good profiles of" not in line]
        assert "canary" not in caplog.text
        caplog.clear()
        return found

    return lines


def gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"profiled_spawner_{name}", {"source": f"configmap/{NAMESPACE}/team"})


def reached(document: Document, subject: Subject) -> list[str]:
    """What a subject gets, or is offered, of ConfigMaps other than the main one."""
    offer = find_offer(document, subject)
    entries = (*match_profiles(document, subject), *offer.sizes, *offer.images)
    return [str(entry.name) for entry in entries if entry.configmap is not None]


SECRET = "valueFrom: {secretKeyRef: {name: '%s', key: k}}"


@pytest.mark.parametrize(
    ("document", "member"),
    [
        # For whom: whatever the document says, nobody but the team.
        pytest.param("profiles: [{name: x, users: [eve], env: {A: b}}]", [], id="another-user"),
        pytest.param("profiles: [{name: x, groups: [staff], env: {A: b}}]", [], id="another-group"),
        pytest.param("profiles: [{name: x, users: [eve, ada], env: {A: b}}]", ["x"], id="a-user-beside-another"),
        pytest.param("profiles: [{name: x, users: ['*'], env: {A: b}}]", ["x"], id="star"),
        pytest.param("profiles: [{name: x, users: ['*', eve], env: {A: b}}]", ["x"], id="star-and-another-user"),
        pytest.param("profiles: [{name: x, groups: ['*'], env: {A: b}}]", [], id="a-group-that-is-a-star"),
        pytest.param("profiles: [{name: x, env: {A: b}}]", ["x"], id="no-filter"),
        pytest.param("profiles: [{name: x, images: ['*'], env: {A: b}}]", ["x"], id="every-image"),
        pytest.param("profiles: [{name: x, images: [nb], env: {A: b}}]", ["x"], id="an-image"),
        pytest.param("profiles: [&a {name: x, users: [eve]}, {<<: *a, users: ['*']}]", ["x"], id="merge-key"),
        pytest.param("profiles: [{name: x, users: &u [eve, '*']}, {name: y, users: *u}]", ["x", "y"], id="alias"),
        pytest.param("profiles: []\nsizes: [{name: x, users: [eve]}, {name: y}]", ["y"], id="sizes"),
        pytest.param("profiles: []\nimages: [{name: x, groups: [staff]}, {name: y}]", ["y"], id="images"),
        # What: whatever the notation, nothing beyond the bounds.
        pytest.param("profiles: [{name: x, resources: {mem_limit: 8Gi}}]", ["x"], id="as-much-as-it-may"),
        *(
            pytest.param(f"profiles: [{{name: x, {section}}}]", [], id=section)
            for section in (
                "resources: {mem_limit: 9Gi}",
                "resources: {mem_limit: 1e10}",
                "resources: {limits: {memory: 9000000000000m}}",
                "resources: {requests: {memory: 9Gi}}",
                "resources: {mem_limit: null}",
                "resources: {limits: {cpu: 1}}",
                "gpu: 1",
                "gpu: null",
                "resources: {requests: {nvidia.com/gpu: 1}}",
                f"env: {{A: {{{SECRET % '{username}'}}}}}",
                f"env: {{A: {{{SECRET % 't-{servername}'}}}}}",
                f"env: {{A: {{{SECRET % 'other'}}}}}",
                f"env: [{{name: A, {SECRET % 'other'}}}]",
                "env_from: [{prefix: T_, secretRef: {name: other}}]",
                "env_from: [{prefix: t-, configMapRef: {name: other}}]",
                "volumes: [{name: v, mountPath: /v, secret: {secretName: t-s}}]",
                "volumes: [{name: v, mountPath: /v, projected: {sources: [{configMap: {name: t-s}}]}}]",
                "volumes: [{name: v, mountPath: /v, csi: {driver: d, nodePublishSecretRef: {name: t}}}]",
                "labels: {a: b}",
                "node_selector: {a: b}",
            )
        ),
        pytest.param(
            f"profiles: [{{name: x, env: [{{name: A, {SECRET % 't-{username}'}}}]}}]", ["x"], id="its-own-secret"
        ),
        pytest.param(
            "profiles: [&a {name: x}, {<<: [*a, {resources: {mem_limit: 9Gi}}], name: y}]", [], id="merged-in-list"
        ),
        pytest.param("profiles: []\nsizes: [{name: x, gpu: 1}]", [], id="too-large-a-size"),
        pytest.param("profiles: []\nimages: [{name: x, image_pull_secrets: [other]}]", [], id="pull-secret"),
        pytest.param("profiles: []\nquotas: []", [], id="quotas-of-its-own"),
        pytest.param("profiles: []\nteams: []", [], id="teams-of-its-own"),
        # One violation, and nothing of the document counts.
        pytest.param("profiles: [{name: x}, {name: y, gpu: 1}]", [], id="beside-what-it-may"),
        # What the main document has too, stays the main document's.
        pytest.param("profiles: []\nsizes: [{name: Small, env: {A: b}}]", [], id="the-main-documents-size"),
    ],
)
async def test_no_way_out(
    hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any], document: str, member: list[str]
) -> None:
    write_profiles(f"{main()}sizes: [{{name: Small}}]")
    write_team(document)
    write_team("profiles: [{name: z}]", "teamless")
    found = (await hub.read()).document
    assert reached(found, MEMBER) == member
    assert reached(found, OTHER) == []
    assert [size.configmap for size in found.sizes if size.name == "Small"] == [None]
    assert {entry.team is not None for entry in found.entries if entry.configmap} <= {True}


@pytest.mark.parametrize("has_teams", ["teams: []", "teams: [{name: t, configmaps: [team], users: []}]", ""])
async def test_one_without_a_team_is_left_out_and_told_once(
    hub: Hub,
    write_profiles: WriteProfiles,
    write_team: Callable[..., Any],
    lines: Callable[[], list[str]],
    has_teams: str,
) -> None:
    write_profiles(f"profiles: []\n{has_teams}")
    write_team("profiles: [{name: a}]", "team-other")
    for _ in range(2):
        assert await hub.labels() == ([] if has_teams else ["team-other/a"])
    expected = [
        "ERROR: Leaving out configmap/jhub/team-other, because no team of the main ConfigMap has it; name it under "
        "'configmaps' of its team, or remove its label"
    ]
    assert lines() == (expected if has_teams else [])
    # It counts from the start on at which it has one.
    write_profiles("profiles: []\nteams: [{name: t, configmaps: [team-other], users: ['*']}]")
    assert await hub.labels() == ["team-other/a"]
    assert lines() == []


async def test_a_violation_is_told_once_with_its_place_and_the_last_good_version_is_used(
    hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any], lines: Callable[[], list[str]]
) -> None:
    write_profiles(main())
    write_team(memory("4Gi"))
    assert await hub.labels() == ["globals", "team/4Gi"]
    assert gauge("document_valid") == 1
    good = (await hub.read()).selected[0]
    write_team(memory("9Gi"))

    for _ in range(3):
        snapshot = await hub.read()
        assert snapshot.selected == (good,)
        assert [profile.label for profile in snapshot.document.profiles] == ["globals", "team/4Gi"]

    (line,) = lines()
    assert re.fullmatch(
        rf"WARNING: Using the last good version, {good}, read \d+ s ago, because configmap/jhub/team@\d+ has 1 error:\n"
        r"  line 1, column 73: profiles\[0\].resources.mem_limit: 9Gi is more than the team t may give a server, which "
        r"is 8Gi \(limits.memory\)",
        line,
    )
    assert gauge("document_valid") == 0
    assert gauge("last_good_read_age_seconds") is not None
    # What is not valid at all is told as ever.
    write_team(BROKEN)
    assert await hub.labels() == ["globals", "team/4Gi"]
    assert re.match(rf"WARNING: Using the last good version, {good}, read .*nmae: unknown key", lines()[0], re.DOTALL)
    write_team(memory("5Gi"))
    assert await hub.labels() == ["globals", "team/5Gi"]
    assert gauge("document_valid") == 1


async def test_a_bound_applies_from_the_next_start_on(
    hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any], lines: Callable[[], list[str]]
) -> None:
    write_profiles(main("limits.memory: 8Gi"))
    write_team(memory("4Gi"))
    assert await hub.labels() == ["globals", "team/4Gi"]
    write_team(memory("8Gi"))
    assert await hub.labels() == ["globals", "team/8Gi"]
    # The last good version is the last that counted, not an older one that would do.
    write_profiles(main("limits.memory: 4Gi"))
    assert await hub.labels() == ["globals"]
    (line,) = lines()
    assert line.startswith("ERROR: Leaving out configmap/jhub/team, because configmap/jhub/team@")
    assert gauge("document_valid") == 0
    assert gauge("last_good_read_age_seconds") is None
    # Whoever is taken out of the team loses what it gave.
    write_profiles(main("limits.memory: 8Gi"))
    found = (await hub.read()).document
    assert reached(found, MEMBER) == ["8Gi"]
    write_profiles(main("limits.memory: 8Gi").replace("forecasters", "others"))
    assert reached((await hub.read()).document, MEMBER) == []
    # Without teams there are no bounds.
    write_team(memory("9Gi"))
    write_profiles("profiles: []")
    assert reached((await hub.read()).document, OTHER) == ["9Gi"]
    write_profiles(main("limits.memory: 8Gi"))
    assert reached((await hub.read()).document, OTHER) == []
    assert await hub.labels() == ["globals"]


async def test_the_file_keeps_the_version_that_kept_to_its_bounds(
    hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any], lines: Callable[[], list[str]]
) -> None:
    write_profiles(main())
    write_team(memory("4Gi"))
    await hub.read()
    write_team(memory("9Gi"))
    for _ in range(2):
        assert await hub.labels() == ["globals", "team/4Gi"]
        hub.restart()
    assert "before this hub started, because configmap/jhub/team@" in lines()[-1]
    # Bounds are those of today.
    write_profiles(main("limits.memory: 2Gi"))
    assert await hub.labels() == ["globals"]
    hub.restart()
    write_profiles(main("limits.memory: 4Gi"))
    assert await hub.labels() == ["globals", "team/4Gi"]
    hub.restart()
    # For `fail` and `ignore`, nothing of an earlier hub counts.
    write_profiles(main())
    write_team(memory("4Gi"))
    await hub.read()
    write_team(memory("9Gi"))
    await hub.read()
    hub.restart()
    assert await hub.labels(policy="fail") == ["globals"]


async def test_what_the_file_brings_back_is_bounded_where_the_list_cannot_be_read(
    api: EmbeddedAPI, hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any]
) -> None:
    write_profiles(main())
    write_team(memory("8Gi"))
    write_team(memory("1Gi"), "other")
    write_profiles("profiles: []")
    assert await hub.labels() == ["other/1Gi", "team/8Gi"]
    hub.restart()
    api.deny("list", "configmaps")
    write_profiles(main())
    found = (await hub.read()).document
    assert [reached(found, each) for each in (MEMBER, OTHER)] == [["8Gi"], []]
    write_profiles(main("limits.memory: 4Gi"))
    assert await hub.labels() == ["globals"]


@pytest.mark.parametrize("seen_gone", [True, False])
async def test_one_that_returns_under_its_name_has_its_teams_bounds_and_no_past(
    api: EmbeddedAPI, hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any], seen_gone: bool
) -> None:
    write_profiles(main())
    write_team(memory("4Gi"))
    assert await hub.labels() == ["globals", "team/4Gi"]
    api.delete("configmaps", NAMESPACE, "team")
    if seen_gone:
        assert await hub.labels() == ["globals"]
    write_team(memory("9Gi"))
    assert await hub.labels() == ["globals"]
    hub.restart()
    assert await hub.labels() == ["globals"]


async def test_one_that_changes_its_labels_is_bounded_whenever_it_counts(
    hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any]
) -> None:
    write_profiles(main())
    write_team(memory("4Gi"))
    assert await hub.labels() == ["globals", "team/4Gi"]
    write_profiles(memory("9Gi"), name="team", labels={"jupyterhub": "no-more"})
    assert await hub.labels() == ["globals"]
    write_team(memory("9Gi"))
    assert "team/9Gi" not in await hub.labels()
    write_team(memory("3Gi"))
    assert await hub.labels() == ["globals", "team/3Gi"]


@pytest.mark.parametrize("policy", ["last-good", "fail", "ignore"])
@pytest.mark.parametrize("has_teams", [True, False])
@pytest.mark.parametrize("read_before", [True, False])
async def test_without_a_main_document_nothing_of_a_team_counts(
    hub: Hub,
    write_profiles: WriteProfiles,
    write_team: Callable[..., Any],
    policy: str,
    has_teams: bool,
    read_before: bool,
) -> None:
    write_team(memory("4Gi"))
    if read_before:
        write_profiles(main() if has_teams else "profiles: []")
        await hub.read(policy)
    write_team(memory("9Gi"))
    write_profiles(BROKEN)
    if policy == "ignore":
        snapshot = await hub.read(policy)
        assert (snapshot.document.profiles, snapshot.source, snapshot.selected) == ((), None, ())
    elif policy == "last-good" and read_before:
        # The last good main document has its own teams.
        assert await hub.labels(policy=policy) == (["globals", "team/4Gi"] if has_teams else ["team/9Gi"])
    else:
        with pytest.raises(Exception, match="nmae"):
            await hub.read(policy)


async def test_nothing_is_bounded_twice(
    hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = []
    find_violations = bounds.find_violations

    def count(document: Document, team: Any) -> Any:
        bounded.append(document.profiles[0].name)
        return find_violations(document, team)

    monkeypatch.setattr(bounds, "find_violations", count)
    write_profiles(main())
    write_team(memory("4Gi"))
    first = await hub.read()
    write_team(memory("9Gi"))
    second = await hub.read()
    assert (await hub.read()).document is second.document
    assert bounded == ["4Gi", "9Gi"]
    assert [profile.name for profile in second.document.profiles] == ["globals", "4Gi"]
    assert second.document is first.document
    # An edit elsewhere in the main document changes no team.
    write_profiles(main().replace("globals", "edited"))
    assert await hub.labels() == ["edited", "team/4Gi"]
    assert bounded == ["4Gi", "9Gi"]
    write_profiles(main("limits.memory: 9Gi"))
    assert await hub.labels() == ["globals", "team/9Gi"]
    assert sorted(bounded[2:]) == ["4Gi", "9Gi"]


async def test_starts_with_different_main_documents_do_not_mix_their_bounds(
    hub: Hub, write_team: Callable[..., Any], tmp_path: Path
) -> None:
    write_team(memory("4Gi"))
    hubs = []
    for number, limit in enumerate(("8Gi", "2Gi", "4Gi")):
        path = tmp_path / f"main-{number}.yaml"
        path.write_text(main(f"limits.memory: {limit}"))
        other = Hub(hub.selected.api, hub.path)
        other.main = FileSource(path, KEY)
        hubs.append(other)
    for _ in range(5):
        found = await asyncio.gather(*(each.labels() for each in hubs * 10))
        assert found == [["globals", "team/4Gi"], ["globals"], ["globals", "team/4Gi"]] * 10


async def test_a_page_leaves_it_to_the_start_to_tell(
    hub: Hub, write_profiles: WriteProfiles, write_team: Callable[..., Any], lines: Callable[[], list[str]]
) -> None:
    write_profiles(main())
    write_team(memory("9Gi"))
    await hub.read(purpose="page")
    (page,) = lines()
    assert page.startswith("INFO: Showing the spawn page with nothing of configmap/jhub/team, because ")
    await hub.read(purpose="observation")
    (observed,) = lines()
    assert observed.startswith("WARNING: Would leave out configmap/jhub/team, because configmap/jhub/team@")
    write_team(memory("10Gi"))
    await hub.read(purpose="page")
    await hub.read()
    assert [line.split()[0] for line in lines()] == ["INFO:", "ERROR:"]


async def test_one_whose_check_hangs_leaves_the_others_alone(
    hub: Hub,
    write_profiles: WriteProfiles,
    write_team: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    lines: Callable[[], list[str]],
) -> None:
    gate, hangs = threading.Event(), threading.Event()
    find_violations = bounds.find_violations

    def hang(document: Document, team: Any) -> Any:
        if len(document.profiles) > 1:
            hangs.set()
            gate.wait()
        return find_violations(document, team)

    monkeypatch.setattr(bounds, "find_violations", hang)
    write_profiles(main().replace("[team]", "[team, large]"))
    write_team(memory("4Gi"))
    write_team(f"profiles: [{{name: a}}, {{name: b}}] #{'#' * 200}", "large")
    reading = asyncio.create_task(hub.labels(timeout_seconds=SHORT_SECONDS))
    await until(hangs.is_set)
    clock.forward(SHORT_SECONDS)
    assert await reading == ["globals", "team/4Gi"]
    assert lines() == [
        "ERROR: Leaving out configmap/jhub/large, because whether it keeps to the bounds of its team is still being "
        "checked"
    ]
    gate.set()
    assert await hub.labels() == ["globals", "large/a", "large/b", "team/4Gi"]


async def test_a_defect_of_the_check_leaves_that_one_out(
    hub: Hub,
    write_profiles: WriteProfiles,
    write_team: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    lines: Callable[[], list[str]],
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("canary-value")

    monkeypatch.setattr(bounds, "find_violations", fail)
    write_profiles(main())
    write_team(memory("4Gi"))
    assert await hub.labels() == ["globals"]
    (line,) = lines()
    assert "because of a defect of this package (KeyError); please report it" in line


async def test_without_a_thread_nothing_unbounded_counts(
    hub: Hub,
    write_profiles: WriteProfiles,
    write_team: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    lines: Callable[[], list[str]],
) -> None:
    write_profiles(main())
    write_team(memory("4Gi"))
    assert await hub.labels() == ["globals", "team/4Gi"]
    write_profiles(main("limits.memory: 2Gi"))

    async def refuse(*_: Any) -> Any:
        raise SourceError("the hub could start no thread", outcome="unavailable")

    monkeypatch.setattr(several.get_selection(hub.selected)._bounding, "run", refuse)
    assert await hub.labels() == ["globals"]
    assert lines() == ["ERROR: Leaving out configmap/jhub/team, because the hub could start no thread"]
