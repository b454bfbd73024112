"""A hub with `ProfiledKubeSpawner`: real users, groups and tokens, its pages, its REST API and its metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from kubespawner import KubeSpawner
from traitlets.config import Config

from profiled_spawner.hub.kubespawner import SpawnException
from sandbox.api import EmbeddedAPI, Fault
from sandbox.inprocess import InProcessHub, xsrf_of
from sandbox.paperkubelet import PaperKubelet

from ..conftest import API_SERVERS, NAMESPACE, WriteProfiles, make_api_server
from ..test_metrics import documented
from .test_images import HUBS, IMAGES, STATISTICS, choose, image_of
from .test_spawner import DOCUMENT, FORECAST, created, env_of, resources_of

SENTENCE = "Your server was not started because its settings could not be read"

MakeHub = Callable[..., Awaitable[InProcessHub]]


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


@pytest.fixture
async def make_hub(api: EmbeddedAPI, kubelet: PaperKubelet, tmp_path: Path) -> AsyncIterator[MakeHub]:
    hubs: list[InProcessHub] = []

    async def make(config: Config | None = None) -> InProcessHub:
        hub = InProcessHub(tmp_path, with_defaults(config))
        await hub.__aenter__()
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        await hub.__aexit__(None, None, None)


def with_defaults(config: Config | None) -> Config:
    """A hub's configuration, over what every test needs."""
    settings = Config()
    settings.KubeSpawner.namespace = NAMESPACE
    settings.KubeSpawner.image = FORECAST
    settings.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
    settings.merge(config or Config())
    return settings


async def started(
    api: EmbeddedAPI, hub: InProcessHub, user: str, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Starts a user's server through the REST API, and returns its pod once the hub says that it is ready."""
    (await hub.api("POST", f"/users/{user}/server", json=options)).raise_for_status()
    return await ready(api, hub, user)


async def ready(api: EmbeddedAPI, hub: InProcessHub, user: str) -> dict[str, Any]:
    """The pod of a user's server, which the hub says is ready."""
    server = (await (await hub.api("GET", f"/users/{user}")).json())["servers"].get("")
    assert server, f"the server of {user} is not there"
    assert server["ready"]
    (pod,) = [
        pod for pod in api.list("pods", NAMESPACE) if pod["metadata"]["annotations"]["hub.jupyter.org/username"] == user
    ]
    return pod


async def stopped(hub: InProcessHub, user: str) -> None:
    assert (await hub.api("DELETE", f"/users/{user}/server")).status == 204


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
    beginning, all_begin = 0, asyncio.Event()

    def begin(spawner: KubeSpawner) -> None:
        nonlocal beginning
        beginning += 1
        if beginning == len(users):
            all_begin.set()

    config = Config()
    config.KubeSpawner.pre_spawn_hook = begin
    hub = await make_hub(config)
    users = [f"user{number}" for number in range(20)]
    for user in users:
        await hub.add_user(user)
    api.requests.clear()
    api.faults.append(Fault(gate=all_begin, resource="configmaps"))
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
        may_go_on = asyncio.Event()
        config = Config()
        config.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
        config.KubeSpawner.pre_spawn_hook = lambda _: may_go_on.wait()
        hub = await make_hub(config)
        async with hub.browser("ada") as browser:
            async with browser.get(f"{hub.url}/hub/spawn", allow_redirects=False) as page:
                assert page.status == 302
                pending = page.headers["Location"].partition("?")[0]
            events = await progress(hub, "ada", may_go_on)
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
        assert hub.app.tornado_application.settings.get("failure_count", 0) == 0

    async def test_refused_pods_leave_the_count_of_failures_to_others(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_profiles("profiles: [{env: {A: a}}]")
        config = Config()
        config.KubeSpawner.consecutive_failure_limit = 2
        hub = await make_hub(config)
        await hub.add_user("ada")
        for status, times in ((422, 40), (500, 1)):
            api.faults.append(Fault("status", status=status, verb="create", resource="pods", times=times))
            for _ in range(times):
                assert (await hub.api("POST", "/users/ada/server")).status in (500, 503)
        assert "Aborting due to" not in caplog.text
        assert hub.app.tornado_application.settings["failure_count"] == 1
        assert (await hub.api("POST", "/users/ada/server")).status == 201


SIZES = """
profiles: [{name: globals, resources: {mem_limit: 1Gi, cpu_limit: 500m}}]
sizes:
- {name: Small, resources: {mem_limit: 2Gi}}
- {name: 100%s <b>, groups: [forecasters], resources: {mem_limit: 3Gi}}
- {name: Large, description: For training., users: [ada], resources: {mem_limit: 8Gi, cpu_limit: 4}}
"""
ODD = "100%s <b>"


def offered(page: str, kind: str = "size") -> list[str]:
    """The sizes, or images, on a spawn page."""
    return [unescape(value) for value in re.findall(rf'name="profiled-{kind}"[^>]* value="([^"]*)"', page)]


def selected(page: str, kind: str = "size") -> list[str]:
    return re.findall(rf'name="profiled-{kind}"[^>]* value="([^"]*)"[^>]* checked', page)


async def look(hub: InProcessHub, browser: ClientSession, path: str = "ada") -> str:
    """The spawn page of a user."""
    async with browser.get(f"{hub.url}/hub/spawn/{path}") as page:
        assert page.status == 200
        return str(await page.text())


async def follow(hub: InProcessHub, browser: ClientSession, path: str = "ada") -> str:
    """Where the spawn page of a user leads when it starts the server at once."""
    async with browser.get(f"{hub.url}/hub/spawn/{path}", allow_redirects=False) as page:
        assert page.status == 302
        return str(page.headers["Location"])


async def submit(hub: InProcessHub, browser: ClientSession, path: str = "ada", **fields: str) -> str:
    """Opens a spawn page and sends its form; what that shows if it does not start the server."""
    await look(hub, browser, path)
    form = {name.replace("_", "-"): value for name, value in fields.items()} | {"_xsrf": xsrf_of(browser)}
    async with browser.post(f"{hub.url}/hub/spawn/{path}", data=form, allow_redirects=False) as page:
        return unescape(await page.text())


class TestSizes:
    async def test_a_person_is_offered_exactly_the_sizes_that_match(
        self, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        hub = await make_hub()
        await hub.add_user("grace", "forecasters")
        for user, expected in (("ada", ["Small", "Large"]), ("grace", ["Small", ODD]), ("edsger", ["Small"])):
            async with hub.browser(user) as browser:
                page = await look(hub, browser, user)
            assert offered(page) == ["default", *expected]
            assert selected(page) == ["default"]

    async def test_it_is_the_servers_owner_whose_sizes_are_offered(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        config = Config()
        config.Authenticator.admin_users = {"root"}
        config.JupyterHub.admin_access = True
        hub = await make_hub(config)
        await hub.add_user("ada")
        async with hub.browser("root") as browser:
            assert offered(await look(hub, browser)) == ["default", "Small", "Large"]
            assert offered(await look(hub, browser, "root")) == ["default", "Small"]
            await submit(hub, browser, profiled_size="Large")
        assert resources_of(await ready(api, hub, "ada"))["limits"] == {"memory": "8Gi", "cpu": "4"}

    @pytest.mark.parametrize("through", ["form", "query", "api"])
    async def test_a_chosen_size_wins_over_every_profile(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles, through: str
    ) -> None:
        write_profiles(SIZES.replace("name: globals", "name: globals, users: [ada], images: ['*forecast*']"))
        hub = await make_hub()
        await hub.add_user("ada")
        if through == "api":
            pod = await started(api, hub, "ada", {"profiled": {"size": "Large"}})
        else:
            async with hub.browser("ada") as browser:
                if through == "form":
                    await submit(hub, browser, profiled_size="Large")
                else:
                    await follow(hub, browser, "ada?profiled-size=Large")
            pod = await ready(api, hub, "ada")
        assert resources_of(pod)["limits"] == {"memory": "8Gi", "cpu": "4"}
        assert json.loads(pod["metadata"]["annotations"]["profiled-spawner/applied"]) == ["globals", "size Large"]

    async def test_named_servers_have_sizes_too(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        config = Config()
        config.JupyterHub.allow_named_servers = True
        hub = await make_hub(config)
        async with hub.browser("ada") as browser:
            assert offered(await look(hub, browser, "ada/second")) == ["default", "Small", "Large"]
            text = await submit(hub, browser, "ada/second", profiled_size="Huge")
            assert "there is no size 'Huge' for ada; choose one of: default, Small, Large." in text
            await submit(hub, browser, "ada/second", profiled_size="Small")
            (pod,) = api.list("pods", NAMESPACE)
            assert resources_of(pod)["limits"]["memory"] == "2Gi"

    async def test_default_applies_none_and_is_remembered(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        hub = await make_hub()
        await hub.add_user("ada")
        for options in ({"profiled": {"size": "Large"}}, {"profiled": {"size": "default"}}):
            pod = await started(api, hub, "ada", options)
            await stopped(hub, "ada")
        assert resources_of(pod)["limits"]["memory"] == "1Gi"
        await started(api, hub, "ada", {"profiled": {"size": "Large"}})
        await stopped(hub, "ada")
        async with hub.browser("ada") as browser:
            assert selected(await look(hub, browser)) == ["Large"]
            await submit(hub, browser, profiled_size="default")
            assert resources_of(await ready(api, hub, "ada"))["limits"]["memory"] == "1Gi"
            await stopped(hub, "ada")
            assert selected(await look(hub, browser)) == ["default"]

    @pytest.mark.parametrize("size", [ODD, "Huge", "large", ["Large"], {"name": "Large"}, 7, True])
    async def test_the_rest_api_refuses_a_size_that_is_not_to_be_had(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles, size: Any
    ) -> None:
        write_profiles(SIZES)
        hub = await make_hub()
        await hub.add_user("ada")
        response = await hub.api("POST", "/users/ada/server", json={"profiled": {"size": size}})
        assert response.status == 400
        assert (await response.json())["message"] == (
            f"Your server was not started because there is no size {size!r} for ada; "
            "choose one of: default, Small, Large."
        )
        assert created(api) == []

    async def test_the_form_refuses_a_size_that_went_while_it_was_looked_at(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        hub = await make_hub()
        await hub.add_user("grace", "forecasters")
        async with hub.browser("grace") as browser:
            assert ODD in offered(await look(hub, browser, "grace"))
            write_profiles(SIZES.replace("100%s <b>", "<i>Half</i>"))
            text = await submit(hub, browser, "grace", profiled_size=ODD)
            assert f"there is no size '{ODD}' for grace; choose one of: default, Small, <i>Half</i>." in text
            assert offered(text) == ["default", "Small", "<i>Half</i>"]
            assert selected(text) == ["default"]
            assert created(api) == []
            await submit(hub, browser, "grace", profiled_size="Small")
        assert resources_of(await ready(api, hub, "grace"))["limits"]["memory"] == "2Gi"

    async def test_the_pending_page_and_its_progress_say_why_a_size_is_refused(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        may_go_on = asyncio.Event()
        config = Config()
        config.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
        config.KubeSpawner.pre_spawn_hook = lambda _: may_go_on.wait()
        hub = await make_hub(config)
        why = f"there is no size '{ODD}' for ada; choose one of: default, Small, Large."
        async with hub.browser("ada") as browser:
            await look(hub, browser)
            form = {"_xsrf": xsrf_of(browser), "profiled-size": ODD}
            async with browser.post(f"{hub.url}/hub/spawn/ada", data=form, allow_redirects=False) as page:
                pending = page.headers["Location"].partition("?")[0]
            events = await progress(hub, "ada", may_go_on)
            assert events[-1]["failed"] is True
            assert why in events[-1]["message"]
            async with browser.get(f"{hub.url}{pending}") as page:
                assert why in unescape(await page.text())

    async def test_the_list_is_as_fresh_as_the_profiles(self, make_hub: MakeHub, write_profiles: WriteProfiles) -> None:
        hub = await make_hub()
        async with hub.browser("ada") as browser:
            for names in (["One"], ["One", "Two"], ["Three"]):
                sizes = ", ".join(f"{{name: {name}, resources: {{mem_limit: 1Gi}}}}" for name in names)
                write_profiles(f"profiles: []\nsizes: [{sizes}]")
                assert offered(await look(hub, browser)) == ["default", *names]

    async def test_the_last_choice_is_selected_after_a_restart_of_the_hub(
        self, api: EmbeddedAPI, kubelet: PaperKubelet, write_profiles: WriteProfiles, tmp_path: Path
    ) -> None:
        write_profiles(SIZES)
        config = Config()
        config.JupyterHub.db_url = f"sqlite:///{tmp_path}/hub.sqlite"
        async with InProcessHub(tmp_path, with_defaults(config)) as hub, hub.browser("ada") as browser:
            await submit(hub, browser, profiled_size="Large")
            await ready(api, hub, "ada")
            await stopped(hub, "ada")
        async with InProcessHub(tmp_path, with_defaults(config)) as hub, hub.browser("ada") as browser:
            assert selected(await look(hub, browser)) == ["Large"]
            # Without options, JupyterHub starts a server with the last ones.
            assert resources_of(await started(api, hub, "ada"))["limits"]["memory"] == "8Gi"
            await stopped(hub, "ada")
            write_profiles(SIZES.replace("Large", "Larger"))
            page = await look(hub, browser)
            assert selected(page) == ["default"]
            assert "Your last size, &#x27;Large&#x27;, is not available now." in page
            assert (await hub.api("POST", "/users/ada/server")).status == 400

    async def test_without_sizes_the_page_is_as_it_would_be_without_us(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        hub = await make_hub()
        async with hub.browser("ada") as browser:
            assert "/hub/spawn-pending/ada" in await follow(hub, browser)
        assert resources_of(await ready(api, hub, "ada"))["limits"]["memory"] == "2Gi"

    async def test_when_all_sizes_are_gone_a_person_is_asked_once_to_go_on_without(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        hub = await make_hub()
        await hub.add_user("ada")
        await started(api, hub, "ada", {"profiled": {"size": "Large"}})
        await stopped(hub, "ada")
        write_profiles(DOCUMENT)
        async with hub.browser("ada") as browser:
            page = await look(hub, browser)
            assert offered(page) in ([], ["default"])
            assert "is not available now" in page
            await submit(hub, browser)
            await ready(api, hub, "ada")
            await stopped(hub, "ada")
            assert "/hub/spawn-pending/ada" in await follow(hub, browser)

    async def test_they_stand_beside_profile_list(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_profiles(SIZES)
        config = Config()
        config.KubeSpawner.profile_list = [
            {"display_name": "Plain", "slug": "plain"},
            {
                "display_name": "Other",
                "slug": "other",
                "profile_options": {
                    "image": {
                        "display_name": "Image",
                        "choices": {
                            "new": {"display_name": "New", "kubespawner_override": {"image": "quay.io/example/new:1"}}
                        },
                    }
                },
            },
        ]
        hub = await make_hub(config)
        async with hub.browser("ada") as browser:
            page = await look(hub, browser)
            assert 'id="kubespawner-profiles-list"' in page
            assert offered(page) == ["default", "Small", "Large"]
            await submit(hub, browser, profile="other", profile_option_other__image="new", profiled_size="Small")
            pod = await ready(api, hub, "ada")
        assert pod["spec"]["containers"][0]["image"] == "quay.io/example/new:1"
        assert resources_of(pod)["limits"]["memory"] == "2Gi"
        (line,) = [line for line in caplog.messages if "Ignoring unrecognized form data" in line]
        assert line.endswith(": _xsrf")

    @pytest.mark.parametrize("policy", ["last-good", "fail", "ignore"])
    async def test_when_the_profiles_cannot_be_read_the_page_is_kubespawners(
        self, make_hub: MakeHub, write_profiles: WriteProfiles, policy: str
    ) -> None:
        config = Config()
        config.KubeSpawner.profile_list = [{"display_name": "Only", "slug": "only"}]
        config.ProfiledKubeSpawner.failure_policy = policy
        hub = await make_hub(config)
        async with hub.browser("ada") as browser:
            page = await look(hub, browser)
            assert "Only" in page
            assert offered(page) == []
            if policy != "ignore":
                assert SENTENCE in await submit(hub, browser, profile="only")
            write_profiles(SIZES)
            assert offered(await look(hub, browser)) == ["default", "Small", "Large"]
            write_profiles("profiles: [{nmae: broken}]")
            expected = ["default", "Small", "Large"] if policy == "last-good" else []
            assert offered(await look(hub, browser)) == expected

    async def test_a_refused_size_never_ends_the_hub(
        self, make_hub: MakeHub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_profiles(SIZES)
        config = Config()
        config.KubeSpawner.consecutive_failure_limit = 2
        hub = await make_hub(config)
        await hub.add_user("ada")
        before = await metrics(hub)
        for _ in range(4):
            assert (await hub.api("POST", "/users/ada/server", json={"profiled": {"size": "Huge"}})).status == 400
        assert "Aborting due to" not in caplog.text
        after = await metrics(hub)
        refused = 'profiled_spawner_spawns_total{outcome="refused"}'
        assert after[refused] - before.get(refused, 0) == 4


WAYS = ["form", "link", "opt-link", "api", "api-user-options"]
IS_JUPYTERHUB_6 = SpawnException is not None


async def ask(hub: InProcessHub, through: str, image: str) -> str:
    """Asks for ada's server with an image; what is said if it does not start."""
    if through.startswith("api"):
        body = choose(image)
        body = {"user_options": body} if through == "api-user-options" else body
        response = await hub.api("POST", "/users/ada/server", json=body)
        text = await response.text()
        assert response.status in (201, 400), text
        return "" if response.status == 201 else str(json.loads(text)["message"])
    async with hub.browser("ada") as browser:
        if through == "form":
            return await submit(hub, browser, profiled_image=image)
        query = {f"{through.removesuffix('link')}profiled-image": image}
        async with browser.get(f"{hub.url}/hub/spawn/ada", params=query, allow_redirects=False) as page:
            return unescape(await page.text())


@pytest.fixture
async def image_hub(make_hub: MakeHub, write_profiles: WriteProfiles) -> InProcessHub:
    """A hub with images for the group of ada, and named servers."""
    write_profiles(IMAGES)
    config = Config()
    config.KubeSpawner.image = HUBS
    config.KubeSpawner.consecutive_failure_limit = 2
    config.JupyterHub.allow_named_servers = True
    hub = await make_hub(config)
    await hub.add_user("ada", "forecasters")
    return hub


async def options_of(hub: InProcessHub, user: str, server: str = "") -> dict[str, Any]:
    """What the hub has stored."""
    servers = (await (await hub.api("GET", f"/users/{user}?include_stopped_servers")).json())["servers"]
    options: dict[str, Any] = servers[server]["user_options"]
    return options


class TestImages:
    async def test_a_person_is_offered_exactly_the_images_that_match(self, image_hub: InProcessHub) -> None:
        await image_hub.add_user("grace", "teachers")
        for user, expected in (
            ("ada", ["Forecasting", "Statistics", "Hub default"]),
            ("grace", ["Hub default", "Other"]),
        ):
            async with image_hub.browser(user) as browser:
                page = await look(image_hub, browser, user)
            assert offered(page, "image") == expected
            assert selected(page, "image") == expected[:1]
            assert offered(page) == []

    @pytest.mark.parametrize(
        "groups", [pytest.param((), id="nothing-offered"), pytest.param(("teachers",), id="only-one")]
    )
    async def test_with_nothing_to_choose_there_is_no_page(
        self, api: EmbeddedAPI, image_hub: InProcessHub, groups: tuple[str, ...]
    ) -> None:
        await image_hub.add_user("edsger", *groups)
        async with image_hub.browser("edsger") as browser:
            assert "/hub/spawn-pending/edsger" in await follow(image_hub, browser, "edsger")
        assert image_of(await ready(api, image_hub, "edsger")) == HUBS

    @pytest.mark.parametrize("through", WAYS)
    async def test_the_chosen_one_runs_and_is_remembered(
        self, api: EmbeddedAPI, image_hub: InProcessHub, through: str
    ) -> None:
        if through in ("opt-link", "api-user-options") and not IS_JUPYTERHUB_6:
            pytest.skip("JupyterHub 6 has this")
        await ask(image_hub, through, "Statistics")
        assert image_of(await ready(api, image_hub, "ada")) == STATISTICS
        assert await options_of(image_hub, "ada") == choose("Statistics")
        await stopped(image_hub, "ada")
        # Without options, JupyterHub starts a server with the last ones.
        assert image_of(await started(api, image_hub, "ada")) == STATISTICS
        await stopped(image_hub, "ada")
        async with image_hub.browser("ada") as browser:
            assert selected(await look(image_hub, browser), "image") == ["Statistics"]

    @pytest.mark.parametrize("through", WAYS)
    @pytest.mark.parametrize("name", ["Other", "statistics", STATISTICS])
    async def test_one_that_is_not_offered_is_refused_with_a_list(
        self,
        api: EmbeddedAPI,
        image_hub: InProcessHub,
        caplog: pytest.LogCaptureFixture,
        through: str,
        name: str,
    ) -> None:
        if through in ("opt-link", "api-user-options") and not IS_JUPYTERHUB_6:
            pytest.skip("JupyterHub 6 has this")
        for _ in range(3):
            said = await ask(image_hub, through, name)
            assert f"there is no image '{name}' for ada; choose one of: Forecasting, Statistics, Hub default." in said
        assert created(api) == []
        assert "Aborting due to" not in caplog.text
        assert image_hub.app.tornado_application.settings.get("failure_count", 0) == 0

    async def test_each_named_server_has_its_own(self, api: EmbeddedAPI, image_hub: InProcessHub) -> None:
        chosen = {"one": "Statistics", "two": "Hub default", "three": "Forecasting"}
        async with image_hub.browser("ada") as browser:
            for server, image in chosen.items():
                text = await submit(image_hub, browser, f"ada/{server}", profiled_image="Other")
                assert "there is no image 'Other' for ada; choose one of: Forecasting, Statistics" in text
                await submit(image_hub, browser, f"ada/{server}", profiled_image=image)
        assert {server: await options_of(image_hub, "ada", server) for server in chosen} == {
            server: choose(image) for server, image in chosen.items()
        }
        running = sorted(pod["spec"]["containers"][0]["image"] for pod in api.list("pods", NAMESPACE))
        assert running == sorted([STATISTICS, HUBS, FORECAST])

    async def test_who_leaves_a_group_may_not_run_its_image_again(
        self, api: EmbeddedAPI, image_hub: InProcessHub
    ) -> None:
        await started(api, image_hub, "ada", choose("Statistics"))
        await stopped(image_hub, "ada")
        api.requests.clear()
        path = "/groups/forecasters/users"
        (await image_hub.api("DELETE", path, json={"users": ["ada"]})).raise_for_status()
        response = await image_hub.api("POST", "/users/ada/server")
        assert response.status == 400
        assert "no image 'Statistics' for ada; no image can be chosen" in (await response.json())["message"]
        assert created(api) == []
        async with image_hub.browser("ada") as browser:
            page = unescape(await look(image_hub, browser))
            assert "Your last image, 'Statistics', is not available now." in page
            await submit(image_hub, browser)
        assert image_of(await ready(api, image_hub, "ada")) == HUBS

    @pytest.mark.skipif(not IS_JUPYTERHUB_6, reason="JupyterHub 6 has this")
    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_stored_options_that_are_changed_count_at_the_start(
        self, api: EmbeddedAPI, image_hub: InProcessHub, method: str
    ) -> None:
        path = "/users/ada/servers/second"

        async def store(options: dict[str, Any]) -> None:
            if method == "PUT":
                await image_hub.api("DELETE", path, json={"remove": True})
            (await image_hub.api(method, path, json={"user_options": options})).raise_for_status()

        (await image_hub.api("PUT", path, json={})).raise_for_status()
        unoffered: list[Any] = [choose("Other"), {"profiled": "Statistics"}, {"profiled": {"picture": STATISTICS}}]
        for options in unoffered:
            await store(options)
            response = await image_hub.api("POST", path)
            assert response.status == 400, await response.text()
            assert created(api) == []
        await store(choose("Statistics"))
        assert created(api) == []
        (await image_hub.api("POST", path)).raise_for_status()
        (pod,) = api.list("pods", NAMESPACE)
        assert image_of(pod) == STATISTICS

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param([choose("Other")], id="a-list"),
            pytest.param("Other", id="a-text"),
            pytest.param({"profiled": "Other"}, id="no-object"),
            pytest.param({"profiled": ["Other"]}, id="a-list-in-it"),
            pytest.param({"profiled": {"image": {"name": "Other"}}}, id="an-object-for-a-name"),
            pytest.param({"profiled": {"image": 7}}, id="a-number"),
            pytest.param({"profiled": {"image": "Statistics", "picture": "x"}}, id="one-key-more"),
            pytest.param({"profiled": {"image": json.loads("[" * 400 + "]" * 400)}}, id="nested"),
            pytest.param({"profiled": {"image": "x" * 100_000}}, id="long"),
        ],
    )
    async def test_options_of_any_shape_start_nothing_and_never_end_the_hub(
        self, api: EmbeddedAPI, image_hub: InProcessHub, caplog: pytest.LogCaptureFixture, options: Any
    ) -> None:
        for _ in range(3):
            response = await image_hub.api("POST", "/users/ada/server", json=options)
            assert response.status >= 400
            assert len(await response.text()) < 1000
        assert created(api) == []
        # What is no object never reaches a spawner; JupyterHub 5 counts it as a failure of the hub, whatever spawner.
        if isinstance(options, dict):
            assert response.status == 400
            assert "Aborting due to" not in caplog.text
            assert image_hub.app.tornado_application.settings.get("failure_count", 0) == 0


class TestTeams:
    pytestmark = pytest.mark.usefixtures("label_selectors")

    async def test_what_a_team_offers_is_for_its_members_only(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(
            "profiles: []\nsizes: [{name: Small}]\nteams: [{name: t, configmaps: [team], groups: [forecasters], "
            "may: [resources, sizes], hard: {limits.memory: 4Gi}}]"
        )
        write_profiles(
            "profiles: []\nsizes: [{name: Large, users: ['*'], resources: {mem_limit: 4Gi}}, {name: Small, gpu: 0}]",
            name="team",
            labels={"team": "yes"},
        )
        config = Config()
        config.ProfiledKubeSpawner.configmap_label_selector = "team=yes"
        hub = await make_hub(config)
        await hub.add_user("grace", "forecasters")
        await hub.add_user("eve", "staff")
        for user in ("grace", "eve"):
            async with hub.browser(user) as browser:
                # The team's document gives GPUs, which it may not: nothing of it counts.
                assert offered(await look(hub, browser, user)) == ["default", "Small"]
        text = "profiles: []\nsizes: [{name: Large, users: ['*'], resources: {mem_limit: 4Gi}}, {name: Small}]"
        write_profiles(text, name="team", labels={"team": "yes"})
        for user, expected in (("grace", ["Small", "Large"]), ("eve", ["Small"])):
            async with hub.browser(user) as browser:
                assert offered(await look(hub, browser, user)) == ["default", *expected]
        pod = await started(api, hub, "grace", {"profiled": {"size": "Large"}})
        assert resources_of(pod)["limits"] == {"memory": "4Gi"}
        refused = await hub.api("POST", "/users/eve/server", json={"profiled": {"size": "Large"}})
        assert refused.status == 400
        assert "there is no size 'Large' for eve" in await refused.text()


class TestObserving:
    """With `observe_only`, people meet KubeSpawner alone; the admins learn what would be."""

    @pytest.mark.parametrize("document", ["", "profiles: [{nmae: a}]", SIZES])
    async def test_pages_options_and_servers_are_kubespawners_own(
        self,
        api: EmbeddedAPI,
        make_hub: MakeHub,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
        document: str,
    ) -> None:
        caplog.set_level(logging.INFO)
        if document:
            write_profiles(document)
        config = Config()
        config.ProfiledKubeSpawner.observe_only = True
        config.KubeSpawner.profile_list = [{"display_name": "Only", "slug": "only"}]
        hub = await make_hub(config)
        before = await metrics(hub)
        for user in ("ada", "grace", "edsger"):
            await hub.add_user(user)
        async with hub.browser("ada") as browser:
            page = await look(hub, browser)
            assert "Only" in page
            assert offered(page) == []
            await submit(hub, browser, profile="only", profiled_size="Large")
        pods = [await ready(api, hub, "ada")]
        for user, size in (("grace", "Huge"), ("edsger", "Small")):
            pods.append(await started(api, hub, user, {"profiled": {"size": size}}))
            server = (await (await hub.api("GET", f"/users/{user}")).json())["servers"][""]
            assert server["user_options"] == {"profiled": {"size": size}}

        for pod in pods:
            assert resources_of(pod) in ({}, {"limits": {}, "requests": {}})
            assert [name for name in pod["metadata"]["annotations"] if "profiled" in name] == [
                "profiled-spawner/observed"
            ]
        observed = [json.loads(pod["metadata"]["annotations"]["profiled-spawner/observed"]) for pod in pods]
        if document == SIZES:
            assert [each.get("applied") for each in observed] == [["globals"], None, ["globals", "size Small"]]
            assert observed[1] == {"refused": "what was chosen is not offered"}
            assert f'Would apply to ada on {FORECAST}: ["globals"]' in caplog.text
            assert "Would not start grace, because there is no size 'Huge' for grace" in caplog.text
        else:
            assert observed == [{"refused": "its settings could not be read"}] * 3
            assert caplog.text.count("Would start no server, because ") == 3
        after = await metrics(hub)
        spawns = {name: after[name] - before[name] for name in after if "spawns_total" in name}
        assert spawns.pop('profiled_spawner_spawns_total{outcome="observed"}') == 3
        assert set(spawns.values()) == {0}
        assert "SpawnException" not in caplog.text

    async def test_the_event_log_is_kubespawners_own(
        self, api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        config = Config()
        config.ProfiledKubeSpawner.observe_only = True
        config.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
        hub = await make_hub(config)
        await hub.add_user("ada")
        may_run = asyncio.Event()
        api.faults.append(Fault(gate=may_run, verb="patch", resource="pods"))
        assert (await hub.api("POST", "/users/ada/server")).status == 202
        events = await progress(hub, "ada", may_run, after="Server requested")
        assert events[-1]["ready"] is True
        assert not [event for event in events if "rofile" in event["message"]]


async def progress(
    hub: InProcessHub, user: str, gate: asyncio.Event | None = None, after: str = ""
) -> list[dict[str, Any]]:
    """What the spawn page is told, to its end; opens the gate at the first event that begins so."""
    events = []
    async for event in hub.progress(user):
        events.append(event)
        if gate and event["message"].startswith(after):
            gate.set()
    return events


async def test_progress_tells_what_was_applied(
    api: EmbeddedAPI, make_hub: MakeHub, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    config = Config()
    config.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
    hub = await make_hub(config)
    await hub.add_user("ada")
    # The server runs when the page has been told.
    may_run = asyncio.Event()
    api.faults.append(Fault(gate=may_run, verb="patch", resource="pods"))
    assert (await hub.api("POST", "/users/ada/server")).status == 202
    events = await progress(hub, "ada", may_run, after="Profiles applied")
    assert events[-1]["ready"] is True
    assert "Profiles applied: globals, forecasting. 2 GiB of memory, 1 CPU." in [event["message"] for event in events]


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
    write_profiles(f"{DOCUMENT}quotas: [{{name: enough, hard: {{pods: 9}}}}]")
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
