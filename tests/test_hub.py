"""A hub with `ProfiledKubeSpawner`: real users, groups and tokens, its pages, its REST API and its metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import jupyterhub
import pytest
from traitlets.config import Config

from sandbox.api import EmbeddedAPI, Fault
from sandbox.inprocess import InProcessHub, xsrf_of
from sandbox.paperkubelet import PaperKubelet

from .conftest import API_SERVERS, NAMESPACE, WriteProfiles, make_api_server
from .test_metrics import documented
from .test_spawner import DOCUMENT, FORECAST, created, env_of

SENTENCE = "Your server was not started because its settings could not be read"

MakeHub = Callable[..., Awaitable[InProcessHub]]


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


@pytest.fixture
async def make_hub(api: EmbeddedAPI, kubelet: PaperKubelet, tmp_path: Path) -> AsyncIterator[MakeHub]:
    hubs: list[InProcessHub] = []

    async def make(config: Config | None = None) -> InProcessHub:
        settings = Config()
        settings.KubeSpawner.namespace = NAMESPACE
        settings.KubeSpawner.image = FORECAST
        settings.KubeSpawner.k8s_api_request_retry_timeout = 5
        settings.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
        settings.merge(config or Config())
        hub = InProcessHub(tmp_path, settings)
        await hub.__aenter__()
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        await hub.__aexit__(None, None, None)


async def started(api: EmbeddedAPI, hub: InProcessHub, user: str) -> dict[str, Any]:
    """Starts a user's server through the REST API, and returns its pod once the hub says that it is ready."""
    (await hub.api("POST", f"/users/{user}/server")).raise_for_status()
    while True:
        server = (await (await hub.api("GET", f"/users/{user}")).json())["servers"].get("")
        assert server, f"the server of {user} is not there"
        if server["ready"]:
            break
        await asyncio.sleep(0.05)
    (pod,) = [
        pod for pod in api.list("pods", NAMESPACE) if pod["metadata"]["annotations"]["hub.jupyter.org/username"] == user
    ]
    return pod


async def stopped(hub: InProcessHub, user: str) -> None:
    response = await hub.api("DELETE", f"/users/{user}/server")
    assert response.status in (202, 204)
    while (await (await hub.api("GET", f"/users/{user}")).json())["servers"]:
        await asyncio.sleep(0.05)


async def test_users_and_groups_of_the_hub_decide(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    hub = await make_hub()
    await hub.add_user("ada")
    await hub.add_user("grace", "forecasters")
    await hub.add_user("edsger", "others")
    given = {user: env_of(await started(api, hub, user))["SHARED"] for user in ("ada", "grace", "edsger")}
    assert given == {"ada": "from-forecasting", "grace": "from-forecasting", "edsger": "from-globals"}


async def test_who_leaves_a_group_loses_what_it_gave_at_the_next_start(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    hub = await make_hub()
    await hub.add_user("grace", "forecasters")
    assert "BRACES" in env_of(await started(api, hub, "grace"))
    await stopped(hub, "grace")
    (await hub.api("DELETE", "/groups/forecasters/users", json={"users": ["grace"]})).raise_for_status()
    assert "BRACES" not in env_of(await started(api, hub, "grace"))


async def test_spawns_that_begin_together_share_requests(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    hub = await make_hub()
    users = [f"user{number}" for number in range(20)]
    for user in users:
        await hub.add_user(user)
    api.requests.clear()
    await asyncio.gather(*(started(api, hub, user) for user in users))
    assert sum(request.resource == "configmaps" for request in api.requests) < 10


class TestWhenTheProfilesCannotBeRead:
    async def test_the_rest_api_says_so_and_the_hub_recovers(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        hub = await make_hub()
        await hub.add_user("ada")
        response = await hub.api("POST", "/users/ada/server")
        assert response.status == 503
        assert SENTENCE in (await response.json())["message"]
        assert created(api) == []
        write_profiles(DOCUMENT)
        assert env_of(await started(api, hub, "ada"))["GLOBAL"] == "everywhere"

    async def test_the_spawn_page_says_so(self, make_hub: MakeHub) -> None:
        hub = await make_hub()
        async with hub.browser("ada") as browser, browser.get(f"{hub.url}/hub/spawn") as page:
            assert page.status == 503
            assert SENTENCE in await page.text()

    async def test_the_form_says_so(self, make_hub: MakeHub) -> None:
        config = Config()
        config.KubeSpawner.profile_list = [{"display_name": "Only", "slug": "only"}]
        hub = await make_hub(config)
        async with hub.browser("ada") as browser:
            async with browser.get(f"{hub.url}/hub/spawn/ada") as page:
                assert "Only" in await page.text()
            form = {"profile": "only", "_xsrf": xsrf_of(browser)}
            async with browser.post(f"{hub.url}/hub/spawn/ada", data=form) as page:
                text = await page.text()
        assert SENTENCE in text
        assert "HTTP 503" not in text
        assert "SpawnException" not in text

    async def test_the_pending_page_and_its_progress_say_so(self, api: EmbeddedAPI, make_hub: MakeHub) -> None:
        # Longer than the second that the spawn page waits for.
        api.faults.append(Fault(delay=1.5, resource="configmaps"))
        hub = await make_hub()
        async with hub.browser("ada") as browser:
            async with browser.get(f"{hub.url}/hub/spawn", allow_redirects=False) as page:
                assert page.status == 302
                pending = page.headers["Location"].partition("?")[0]
            events = await progress(hub, "ada")
            assert events[-1]["failed"] is True
            assert SENTENCE in events[-1]["message"]
            async with browser.get(f"{hub.url}{pending}") as page:
                assert SENTENCE in await page.text()

    async def test_the_hub_goes_on_after_any_number_of_failures(
        self, make_hub: MakeHub, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = Config()
        config.KubeSpawner.consecutive_failure_limit = 2
        hub = await make_hub(config)
        await hub.add_user("ada")
        for _ in range(4):
            assert (await hub.api("POST", "/users/ada/server")).status == 503
        assert "Aborting due to" not in caplog.text
        counted = hub.app.tornado_application.settings.get("failure_count", 0)
        assert counted == (4 if jupyterhub.version_info[0] < 6 else 0)


async def progress(hub: InProcessHub, user: str) -> list[dict[str, Any]]:
    """What the spawn page is told, to its end."""
    response = await hub.api("GET", f"/users/{user}/server/progress")
    return [json.loads(line[6:]) for line in (await response.text()).splitlines() if line.startswith("data: ")]


async def test_progress_tells_what_was_applied(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    config = Config()
    config.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
    hub = await make_hub(config)
    await hub.add_user("ada")
    assert (await hub.api("POST", "/users/ada/server")).status == 202
    events = await progress(hub, "ada")
    assert events[-1]["ready"] is True
    assert "Profiles applied: globals, forecasting. Memory 2Gi, CPU 1." in [event["message"] for event in events]


async def test_the_hubs_metrics_tell_of_reads_and_spawns(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT.replace("everywhere", "canary-value"))
    hub = await make_hub()
    await hub.add_user("ada")
    before = await metrics(hub)
    await started(api, hub, "ada")
    after = await metrics(hub)
    source = 'source="configmap/jhub/jupyter-singleuser-profiles"'
    grown = {
        name: after[name] - before.get(name, 0)
        for name in (
            f'profiled_spawner_reads_total{{outcome="ok",{source}}}',
            f"profiled_spawner_read_duration_seconds_count{{{source}}}",
            f'profiled_spawner_parses_total{{outcome="valid",{source}}}',
            'profiled_spawner_spawns_total{outcome="current"}',
        )
    }
    assert set(grown.values()) == {1.0}, grown
    assert after[f"profiled_spawner_document_valid{{{source}}}"] == 1.0
    assert after[f"profiled_spawner_last_good_read_age_seconds{{{source}}}"] >= 0
    assert not [name for name in after if "canary" in name]


async def test_the_hubs_metrics_have_all_that_the_docs_list_and_what_the_alerts_go_by(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
) -> None:
    hub = await make_hub()
    for user in ("ada", "grace"):
        await hub.add_user(user)
    write_profiles(DOCUMENT)
    await started(api, hub, "ada")
    before = await metrics(hub)
    write_profiles("profiles: [{nmae: a}]")
    await started(api, hub, "grace")
    after = await metrics(hub)

    source = 'source="configmap/jhub/jupyter-singleuser-profiles"'
    valid = f"profiled_spawner_document_valid{{{source}}}"
    assert (before[valid], after[valid]) == (1, 0)
    last_good = 'profiled_spawner_spawns_total{outcome="last_good"}'
    assert after[last_good] == before[last_good] + 1
    names = {name.partition("{")[0] for name in after}
    names |= {name.removesuffix("_bucket") for name in names}
    assert documented().keys() <= names


async def metrics(hub: InProcessHub) -> dict[str, float]:
    text = await (await hub.api("GET", "/../metrics")).text()
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("profiled_spawner_")]
    return {name: float(value) for name, _, value in lines}
