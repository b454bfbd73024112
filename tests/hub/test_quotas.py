"""Quotas on a hub: who is refused and how, what counts, and for how long."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jupyterhub
import pytest
from jupyterhub import orm
from jupyterhub.objects import Server
from traitlets.config import Config

from sandbox.api import EmbeddedAPI, Fault
from sandbox.inprocess import InProcessHub
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import until

from ..conftest import API_SERVERS, NAMESPACE, WriteProfiles, make_api_server
from .test_hub import MakeHub, look, offered, selected, started, stopped, with_defaults
from .test_spawner import created

GPUS = """
profiles: [{resources: {mem_limit: 1Gi}}]
sizes:
- {name: One, gpu: 1}
- {name: Two, gpu: 2}
- {name: Nine, gpu: 9}
quotas:
- {name: the GPUs, groups: [forecasters], hard: {requests.nvidia.com/gpu: 2}}
"""
THE_GPUS, EACH = "the GPUs", 'each \\"one\\"'
ONE, TWO, NINE = ({"profiled": {"size": name}} for name in ("One", "Two", "Nine"))


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


@pytest.fixture
async def make_hub(api: EmbeddedAPI, kubelet: PaperKubelet, tmp_path: Path) -> AsyncIterator[MakeHub]:
    hubs: list[InProcessHub] = []

    async def make(config: Config | None = None) -> InProcessHub:
        settings = with_defaults(config)
        hub = InProcessHub(tmp_path, settings)
        await hub.__aenter__()
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        await hub.__aexit__(None, None, None)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers answer a hub that restarts; each hub of these tests has servers of its own, which end with it."""

    async def answer(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(headers={"X-JupyterHub-Version": jupyterhub.__version__})

    monkeypatch.setattr(Server, "wait_up", answer)


async def ask(hub: InProcessHub, user: str, options: dict[str, Any] | None = None, server: str = "") -> tuple[int, str]:
    """Asks for a server: the status of the answer, and its message."""
    path = f"/users/{user}/servers/{server}" if server else f"/users/{user}/server"
    response = await hub.api("POST", path, json=options)
    message = "" if response.status == 201 else (await response.json())["message"]
    return response.status, message


async def read_use(hub: InProcessHub) -> dict[tuple[str, str], tuple[float, float]]:
    """What the metrics say of two quotas: used and hard. Hubs of other tests may still be there, with theirs."""
    text = await (await hub.api("GET", "/../metrics")).text()
    found: dict[tuple[str, str], dict[str, float]] = {}
    pattern = r'^profiled_spawner_quota_(used|hard)\{quota="(.*?)",resource="(.*?)"\} (\S+)$'
    for kind, quota, resource, value in re.findall(pattern, text, re.MULTILINE):
        if quota not in (THE_GPUS, EACH):
            continue
        found.setdefault((quota, resource), {})[kind] = float(value)
    return {key: (values["used"], values["hard"]) for key, values in found.items()}


class TestARefusal:
    async def test_it_says_which_quota_is_full_and_what_would_help(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_profiles(GPUS)
        hub = await make_hub()
        for user in ("ada", "grace"):
            await hub.add_user(user, "forecasters")
        assert (await ask(hub, "ada", TWO))[0] == 201
        before = len(created(api))
        assert await ask(hub, "grace", ONE) == (
            429,
            'Your server was not started because all 2 GPUs that the quota "the GPUs" allows are in use. '
            "Try again when a server has stopped, or choose another size.",
        )
        assert len(created(api)) == before
        assert "grace does not fit into the quota the GPUs: 2 GPUs of 2 GPUs used; ada 2 GPUs" in caplog.text
        await stopped(hub, "ada")
        assert (await ask(hub, "grace", ONE))[0] == 201

    @pytest.mark.parametrize(
        ("quota", "options", "expected"),
        [
            pytest.param(
                "hard: {requests.nvidia.com/gpu: 4}",
                NINE,
                'it needs 9 GPUs, and the quota "q" allows 4 GPUs. Choose another size.',
                id="never",
            ),
            pytest.param(
                "hard: {limits.memory: 512Mi}",
                None,
                'it needs 1 GiB of memory, and the quota "q" allows 512 MiB of memory. '
                "Please ask the administrators of this JupyterHub.",
                id="never-without-a-size",
            ),
            pytest.param(
                "hard: {limits.cpu: 4}",
                None,
                'it has no CPU limit, and the quota "q" counts that. Please ask the administrators of this JupyterHub.',
                id="no-limit",
            ),
            pytest.param(
                "per: user, hard: {requests.nvidia.com/gpu: 0}",
                ONE,
                'it needs 1 GPU, and the quota "q" allows no GPU for each person. Choose another size.',
                id="none",
            ),
        ],
    )
    async def test_it_says_what_can_never_fit(
        self, make_hub: MakeHub, write_profiles: WriteProfiles, quota: str, options: Any, expected: str
    ) -> None:
        write_profiles(GPUS.partition("quotas:")[0] + f"quotas: [{{name: q, {quota}}}]")
        hub = await make_hub()
        await hub.add_user("ada")
        assert await ask(hub, "ada", options) == (429, f"Your server was not started because {expected}")

    async def test_the_form_shows_it(self, make_hub: MakeHub, write_profiles: WriteProfiles) -> None:
        write_profiles(GPUS.replace("gpu: 2}}", "gpu: 0}}"))
        hub = await make_hub()
        await hub.add_user("ada", "forecasters")
        async with hub.browser("ada") as browser:
            await look(hub, browser)
            form = {"profiled-size": "One", "_xsrf": next(c.value for c in browser.cookie_jar if c.key == "_xsrf")}
            async with browser.post(f"{hub.url}/hub/spawn/ada", data=form, allow_redirects=False) as page:
                text = unescape(await page.text())
        assert 'Your server was not started because it needs 1 GPU, and the quota "the GPUs" allows no GPU.' in text

    async def test_any_number_of_them_leaves_the_hub_up(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_profiles(GPUS.replace("gpu: 2}}", "gpu: 0}}"))
        config = Config()
        config.KubeSpawner.consecutive_failure_limit = 2
        hub = await make_hub(config)
        await hub.add_user("ada", "forecasters")
        for _ in range(40):
            assert (await ask(hub, "ada", ONE))[0] == 429
        api.faults.append(Fault("status", status=500, verb="create", resource="pods", times=1))
        assert (await hub.api("POST", "/users/ada/server", json={"profiled": {"size": "default"}})).status == 500
        assert "Aborting due to" not in caplog.text
        assert hub.app.tornado_application.settings["failure_count"] == 1
        assert (await ask(hub, "ada", {"profiled": {"size": "default"}}))[0] == 201


class TestWhatCounts:
    async def test_two_hundred_who_want_the_last_gpu_at_once(
        self, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(GPUS.replace("groups: [forecasters], ", "").replace("gpu: 2}}", "gpu: 1}}"))
        config = Config()
        config.JupyterHub.concurrent_spawn_limit = 0
        hub = await make_hub(config)
        users = [f"user{number}" for number in range(200)]
        for user in users:
            await hub.add_user(user)
        answers = await asyncio.gather(*(ask(hub, user, ONE) for user in users))
        assert sorted(status for status, _ in answers) == [201] + [429] * 199

    async def test_an_edit_counts_from_the_next_start_and_stops_nothing(
        self, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(GPUS)
        hub = await make_hub()
        for user in ("ada", "grace"):
            await hub.add_user(user, "forecasters")
        assert (await ask(hub, "ada", TWO))[0] == 201
        write_profiles(GPUS.replace("gpu: 2}}", "gpu: 1}}"))
        assert (await ask(hub, "grace", ONE))[0] == 429
        # Who needs none of what is short fits.
        assert (await ask(hub, "grace", {"profiled": {"size": "default"}}))[0] == 201
        await stopped(hub, "grace")
        write_profiles(GPUS.replace("gpu: 2}}", "gpu: 3}}"))
        assert (await ask(hub, "grace", ONE))[0] == 201

    async def test_what_is_reserved_stays_reserved_when_an_edit_gives_others_more(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(GPUS)
        config = Config()
        config.KubeSpawner.storage_pvc_ensure = True
        config.KubeSpawner.storage_capacity = "1Gi"
        hub = await make_hub(config)
        for user in ("ada", "grace"):
            await hub.add_user(user, "forecasters")
        may_go_on = asyncio.Event()
        # Where KubeSpawner waits between our two looks at the quotas.
        api.faults.append(Fault(gate=may_go_on, verb="create", resource="persistentvolumeclaims", times=1))
        starting = asyncio.ensure_future(ask(hub, "ada", TWO))
        await until(lambda: any(request.resource == "persistentvolumeclaims" for request in api.requests))
        write_profiles(GPUS.replace("gpu: 2}}", "gpu: 4}}"))
        assert (await ask(hub, "grace", TWO))[0] == 201
        may_go_on.set()
        assert await starting == (201, "")

    async def test_named_servers_count_and_each_person_has_a_quota(
        self, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles("profiles: []\nquotas: [{name: two each, per: user, hard: {pods: 2}}]")
        config = Config()
        config.JupyterHub.allow_named_servers = True
        hub = await make_hub(config)
        for user in ("ada", "grace"):
            await hub.add_user(user)
        assert [(await ask(hub, "ada", server=name))[0] for name in ("", "lab", "third")] == [201, 201, 429]
        assert (await ask(hub, "ada", server="third"))[1] == (
            'Your server was not started because all 2 servers that the quota "two each" allows for each person '
            "are in use. Stop a server."
        )
        assert (await ask(hub, "grace"))[0] == 201

    async def test_groups_count_as_they_were_at_the_start(
        self, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(GPUS)
        hub = await make_hub()
        for user in ("ada", "grace"):
            await hub.add_user(user, "forecasters")
        assert (await ask(hub, "ada", TWO))[0] == 201
        (await hub.api("DELETE", "/groups/forecasters/users", json={"users": ["ada"]})).raise_for_status()
        assert (await ask(hub, "grace", ONE))[0] == 429

    async def test_a_start_that_fails_gives_its_room_back(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(GPUS)
        hub = await make_hub()
        for user in ("ada", "grace"):
            await hub.add_user(user, "forecasters")
        api.faults.append(Fault("status", status=422, verb="create", resource="pods", times=1))
        assert (await ask(hub, "ada", TWO))[0] == 503
        assert (await ask(hub, "grace", TWO))[0] == 201

    async def test_a_hub_that_restarts_goes_on_counting(
        self, api: EmbeddedAPI, kubelet: PaperKubelet, answering: None, write_profiles: WriteProfiles, tmp_path: Path
    ) -> None:
        write_profiles(GPUS)
        config = Config()
        config.JupyterHub.db_url = f"sqlite:///{tmp_path}/hub.sqlite"
        async with InProcessHub(tmp_path, with_defaults(config)) as hub:
            for user in ("ada", "grace"):
                await hub.add_user(user, "forecasters")
            assert (await ask(hub, "ada", TWO))[0] == 201
            (await hub.api("DELETE", "/groups/forecasters/users", json={"users": ["ada"]})).raise_for_status()
        async with InProcessHub(tmp_path, with_defaults(config)) as hub:
            assert (await ask(hub, "grace", ONE))[0] == 429
            await stopped(hub, "ada")
            assert (await ask(hub, "grace", ONE))[0] == 201

    @pytest.mark.parametrize("kept", [None, {}, {"groups": "x"}, {"groups": [], "amounts": {"pods": "-1"}}, [1]])
    async def test_the_pod_of_a_server_of_an_earlier_version_counts(
        self,
        api: EmbeddedAPI,
        kubelet: PaperKubelet,
        answering: None,
        write_profiles: WriteProfiles,
        tmp_path: Path,
        kept: Any,
    ) -> None:
        write_profiles(GPUS)
        config = Config()
        config.JupyterHub.db_url = f"sqlite:///{tmp_path}/hub.sqlite"
        async with InProcessHub(tmp_path, with_defaults(config)) as hub:
            for user in ("ada", "grace"):
                await hub.add_user(user, "forecasters")
            assert (await ask(hub, "ada", TWO))[0] == 201
            row = orm.User.find(hub.app.db, "ada").orm_spawners[""]
            state = {name: value for name, value in row.state.items() if name != "profiled_spawner"}
            assert state != row.state
            row.state = state if kept is None else {**state, "profiled_spawner": kept}
            hub.app.db.commit()
        async with InProcessHub(tmp_path, with_defaults(config)) as hub:
            assert (await ask(hub, "grace", ONE))[0] == 429
            await stopped(hub, "ada")
            assert (await ask(hub, "grace", ONE))[0] == 201

    async def test_a_failure_of_the_database_blocks_no_room_for_ever(
        self, make_hub: MakeHub, write_profiles: WriteProfiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_profiles(GPUS)
        hub = await make_hub()
        for user in ("ada", "grace"):
            await hub.add_user(user, "forecasters")
        assert (await ask(hub, "ada", TWO))[0] == 201
        # The stop fails before JupyterHub has cleared the state.
        spawner = hub.app.users["ada"].spawners[""]
        monkeypatch.setattr(type(spawner), "clear_state", lambda _: None)
        await stopped(hub, "ada")
        monkeypatch.undo()
        assert (await ask(hub, "grace", ONE))[0] == 201


class TestTheForm:
    async def test_a_size_that_does_not_fit_now_cannot_be_chosen(
        self, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(GPUS)
        hub = await make_hub()
        for user in ("ada", "grace"):
            await hub.add_user(user, "forecasters")
        assert (await ask(hub, "grace", TWO))[0] == 201
        await stopped(hub, "grace")
        assert (await ask(hub, "ada", ONE))[0] == 201
        async with hub.browser("grace") as browser:
            page = await look(hub, browser, "grace")
        assert offered(page) == ["default", "One", "Two", "Nine"]
        assert re.findall(r'value="(\w+)"[^>]* disabled', page) == ["Two", "Nine"]
        assert selected(page) == ["default"]
        text = unescape(page)
        assert "Your last size, 'Two', is not available now." in text
        assert (
            'Not available now: it needs 2 GPUs, and the quota "the GPUs" allows 2 GPUs, with 1 GPU in use already'
        ) in text
        assert 'Not available now: it needs 9 GPUs, and the quota "the GPUs" allows 2 GPUs' in text

    async def test_what_others_give_disables_no_size(self, make_hub: MakeHub, write_profiles: WriteProfiles) -> None:
        # No server fits, and no size is the reason.
        write_profiles(
            "profiles: [{gpu: 3}]\nsizes: [{name: Large, resources: {mem_limit: 2Gi}}]\n"
            "quotas: [{name: q, hard: {requests.nvidia.com/gpu: 2, limits.cpu: 1}}]"
        )
        hub = await make_hub()
        async with hub.browser("ada") as browser:
            page = await look(hub, browser)
        assert offered(page) == ["default", "Large"]
        assert "disabled" not in page.partition("profiled-sizes")[2].partition("</fieldset>")[0]


async def test_the_pod_and_the_metrics_name_the_quotas(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
) -> None:
    write_profiles(GPUS + "- {name: 'each \"one\"', per: user, hard: {pods: 3, limits.memory: 2Gi}}\n")
    hub = await make_hub()
    for user in ("ada", "grace"):
        await hub.add_user(user, "forecasters")
    pod = await started(api, hub, "ada", ONE)
    await started(api, hub, "grace", {"profiled": {"size": "default"}})
    assert json.loads(pod["metadata"]["annotations"]["profiled-spawner/quotas"]) == ["the GPUs", 'each "one"']
    assert await read_use(hub) == {
        (THE_GPUS, "requests.nvidia.com/gpu"): (1, 2),
        (EACH, "pods"): (1, 3),
        (EACH, "limits.memory"): (2**30, 2 * 2**30),
    }
    await stopped(hub, "ada")
    assert (await read_use(hub))["the GPUs", "requests.nvidia.com/gpu"] == (0, 2)


async def test_observing_refuses_nothing_and_says_who_would_be_refused(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    write_profiles("profiles: [{resources: {mem_limit: 1Gi}}]\nquotas: [{name: one, hard: {pods: 1}}]")
    config = Config()
    config.ProfiledKubeSpawner.observe_only = True
    hub = await make_hub(config)
    for user in ("ada", "grace"):
        await hub.add_user(user)
    with caplog.at_level(logging.INFO):
        await started(api, hub, "ada")
        pod = await started(api, hub, "grace")
    assert json.loads(pod["metadata"]["annotations"]["profiled-spawner/observed"]) == {
        "refused": "it does not fit into a quota"
    }
    assert 'Would not start grace, because the only server that the quota "one" allows is in use' in caplog.text
    assert len(api.list("pods", NAMESPACE)) == 2
