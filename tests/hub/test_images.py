"""Images that people may choose, on `ProfiledKubeSpawner` alone: what runs, what is refused, and what remains."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiException
from kubespawner import KubeSpawner
from traitlets.config import Config

from profiled_spawner.hub.spawner import ProfilesUnavailableError, StartRefusedError
from sandbox.api import EmbeddedAPI, Fault
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import SHORT_SECONDS, Clock, until

from ..conftest import API_SERVERS, MakeSpawner, WriteProfiles, make_api_server
from .test_spawner import created, env_of, start

HUBS = "quay.io/example/notebook:1"
FORECAST = "quay.io/example/forecast:3.6"
STATISTICS = "quay.io/example/statistics:1"
IMAGES = f"""
profiles:
- {{name: of the hub's, images: ['{HUBS}'], env: {{MATCHED: hub}}}}
- {{name: of forecast, images: ['quay.io/example/forecast:*'], env: {{MATCHED: forecast}}}}
- {{name: of another, images: ['*/another:*'], env: {{MATCHED: another}}}}
images:
- name: Forecasting
  groups: [forecasters]
  image: {FORECAST}
  image_pull_secrets: [forecast-registry]
  default_url: /rstudio
- {{name: Statistics, groups: [forecasters], image: '{STATISTICS}'}}
- {{name: Hub default, groups: [forecasters, teachers], default_url: /tree}}
- {{name: Other, users: [grace], image: 'quay.io/example/other:1', image_pull_secrets: []}}
"""
FORECASTERS = ("forecasters",)
TEACHERS = ("teachers",)


def choose(image: object) -> dict[str, Any]:
    """The options of a server for which an image was chosen."""
    return {"profiled": {"image": image}}


def image_of(pod: dict[str, Any]) -> str:
    """What the notebook container runs. Its variables say the same."""
    image = pod["spec"]["containers"][0]["image"]
    env = env_of(pod)
    assert (env["JUPYTER_IMAGE"], env["JUPYTER_IMAGE_SPEC"]) == (image, image)
    return str(image)


def matched(pod: dict[str, Any]) -> str | None:
    """Of which image the profile is that was applied."""
    found: str | None = env_of(pod).get("MATCHED")
    return found


def secrets_of(pod: dict[str, Any]) -> list[str]:
    return [secret["name"] for secret in pod["spec"].get("imagePullSecrets") or []]


def url_of(pod: dict[str, Any]) -> str | None:
    url: str | None = env_of(pod).get("JUPYTERHUB_DEFAULT_URL")
    return url


def settings_of(spawner: KubeSpawner) -> dict[str, str]:
    """All settings of a spawner, as they are now."""
    return {name: repr(getattr(spawner, name)) for name in sorted(spawner.traits(config=True))}


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


@pytest.fixture(autouse=True)
def running(kubelet: PaperKubelet) -> None:
    """Every test has a kubelet."""


class TestWhatRuns:
    @pytest.mark.parametrize(
        ("user", "groups", "options", "image", "profile"),
        [
            pytest.param("ada", FORECASTERS, {}, FORECAST, "forecast", id="nothing-chosen"),
            pytest.param("ada", FORECASTERS, {"profiled": {}}, FORECAST, "forecast", id="an-empty-choice"),
            pytest.param("ada", FORECASTERS, choose(None), FORECAST, "forecast", id="null"),
            pytest.param("ada", FORECASTERS, choose(""), FORECAST, "forecast", id="an-empty-name"),
            pytest.param("ada", FORECASTERS, choose("Forecasting"), FORECAST, "forecast", id="the-first"),
            pytest.param("ada", FORECASTERS, choose("Statistics"), STATISTICS, None, id="the-second"),
            pytest.param("ada", FORECASTERS, choose("Hub default"), HUBS, "hub", id="without-image"),
            pytest.param("ada", TEACHERS, {}, HUBS, "hub", id="without-image-and-nothing-chosen"),
            pytest.param("grace", (), {}, "quay.io/example/other:1", None, id="of-a-user"),
            pytest.param("grace", TEACHERS, choose("Other"), "quay.io/example/other:1", None, id="user-and-group"),
            pytest.param("grace", TEACHERS, {}, HUBS, "hub", id="the-documents-order"),
            pytest.param("ada", (), {}, HUBS, "hub", id="no-entry-matches"),
            pytest.param("ada", (), {"image": STATISTICS}, HUBS, "hub", id="an-option-that-is-not-ours"),
            pytest.param("ada", FORECASTERS, {"image": STATISTICS}, FORECAST, "forecast", id="the-same-with-images"),
        ],
    )
    async def test_the_chosen_image_or_else_the_first(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        user: str,
        groups: tuple[str, ...],
        options: dict[str, Any],
        image: str,
        profile: str | None,
    ) -> None:
        write_profiles(IMAGES)
        pod = await start(api, make_spawner(user, groups=groups, user_options=options))
        assert (image_of(pod), matched(pod)) == (image, profile)

    @pytest.mark.parametrize(
        ("user", "groups", "name", "secrets", "url"),
        [
            pytest.param("ada", FORECASTERS, "Forecasting", ["forecast-registry"], "/rstudio", id="both"),
            pytest.param("ada", FORECASTERS, "Statistics", ["the-hubs"], "/lab", id="neither"),
            pytest.param("ada", FORECASTERS, "Hub default", ["the-hubs"], "/tree", id="url-without-an-image"),
            pytest.param("grace", (), "Other", [], "/lab", id="an-empty-list-of-secrets"),
            pytest.param("ada", (), "", ["the-hubs"], "/lab", id="no-entry-matches"),
        ],
    )
    async def test_its_url_and_its_secrets_are_in_place_of_the_hubs(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        user: str,
        groups: tuple[str, ...],
        name: str,
        secrets: list[str],
        url: str,
    ) -> None:
        write_profiles(IMAGES)
        config = Config(KubeSpawner={"image_pull_secrets": ["the-hubs"], "default_url": "/lab"})
        pod = await start(api, make_spawner(user, groups=groups, config=config, user_options=choose(name)))
        assert (secrets_of(pod), url_of(pod)) == (secrets, url)

    async def test_an_edit_counts_at_the_next_start_of_the_same_server(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(IMAGES)
        spawner = make_spawner("ada", groups=FORECASTERS)
        assert image_of(await start(api, spawner)) == FORECAST
        write_profiles(IMAGES.replace(FORECAST, "quay.io/example/forecast:4.0"))
        assert image_of(await start(api, spawner)) == "quay.io/example/forecast:4.0"
        write_profiles("profiles: []")
        pod = await start(api, spawner)
        assert (image_of(pod), secrets_of(pod), url_of(pod)) == (HUBS, [], None)

    async def test_a_named_server_has_a_choice_of_its_own(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(IMAGES)
        spawner = make_spawner("ada", groups=FORECASTERS, user_options=choose("Statistics"))
        spawner.orm_spawner = SimpleNamespace(name="second", server=None)
        spawner.pod_name = "jupyter-ada--second"
        pod = await start(api, spawner)
        assert (env_of(pod)["JUPYTERHUB_SERVER_NAME"], image_of(pod)) == ("second", STATISTICS)

    async def test_modify_pod_hook_runs_later(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(IMAGES)
        seen: list[tuple[str, str]] = []

        def hook(spawner: KubeSpawner, pod: Any) -> Any:
            seen.append((pod.spec.containers[0].image, spawner.image))
            pod.spec.containers[0].image = "quay.io/example/hook:1"
            return pod

        pod = await start(api, make_spawner("ada", groups=FORECASTERS, modify_pod_hook=hook))
        assert seen == [(FORECAST, HUBS)]
        assert pod["spec"]["containers"][0]["image"] == "quay.io/example/hook:1"

    async def test_other_containers_keep_theirs(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(IMAGES)
        traits = {
            "init_containers": [{"name": "before", "image": "before:1", "command": ["true"]}],
            "extra_containers": [{"name": "beside", "image": "beside:1", "command": ["sleep", "1d"]}],
        }
        pod = await start(api, make_spawner("ada", groups=FORECASTERS, **traits))
        assert image_of(pod) == FORECAST
        assert [each["image"] for each in pod["spec"]["initContainers"]] == ["before:1"]
        assert [each["image"] for each in pod["spec"]["containers"]] == [FORECAST, "beside:1"]

    @pytest.mark.usefixtures("label_selectors")
    async def test_of_several_configmaps_the_first_entry_of_a_name_counts(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles("profiles: []\nimages: [{name: Both, image: 'main:1'}]")
        team = "profiles: []\nimages: [{name: Both, image: 'team:1'}, {name: Team, image: 'team:2'}]"
        write_profiles(team, name="team", labels={"team": "yes"})
        for name, image in (("Both", "main:1"), ("Team", "team:2"), ("", "main:1")):
            spawner = make_spawner("ada", configmap_label_selector="team=yes", user_options=choose(name))
            assert image_of(await start(api, spawner)) == image


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("groups", "name", "message"),
        [
            pytest.param(
                FORECASTERS,
                "Other",
                "there is no image 'Other' for ada; choose one of: Forecasting, Statistics, Hub default.",
                id="somebody-elses",
            ),
            pytest.param(TEACHERS, "Gone", "there is no image 'Gone' for ada; choose one of: Hub default.", id="gone"),
            pytest.param(
                TEACHERS,
                "hub default",
                "there is no image 'hub default' for ada; choose one of: Hub default.",
                id="exactly",
            ),
            pytest.param(
                TEACHERS, HUBS, f"there is no image '{HUBS}' for ada; choose one of: Hub default.", id="an-image"
            ),
            pytest.param(
                TEACHERS, ["Other"], "there is no image ['Other'] for ada; choose one of: Hub default.", id="a-list"
            ),
            pytest.param(
                (), "Other", "there is no image 'Other' for ada; no image can be chosen.", id="nothing-offered"
            ),
        ],
    )
    async def test_before_anything_is_created_and_the_next_choice_starts(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        groups: tuple[str, ...],
        name: object,
        message: str,
    ) -> None:
        write_profiles(IMAGES)
        spawner = make_spawner("ada", groups=groups, user_options=choose(name), enable_user_namespaces=True)
        before = settings_of(spawner)
        with pytest.raises(StartRefusedError) as refusal:
            await spawner.start()
        assert refusal.value.status_code == 400
        assert str(refusal.value) == f"Your server was not started because {message}"
        assert created(api) == []
        after = settings_of(spawner)
        # On JupyterHub 5, a refusal must not count.
        assert {name for name in after if after[name] != before[name]} <= {"consecutive_failure_limit"}

        spawner = make_spawner("ada", groups=groups, user_options=choose(""))
        assert image_of(await start(api, spawner)) == (FORECAST if groups == FORECASTERS else HUBS)

    async def test_the_last_good_images_count_while_there_is_no_answer(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(IMAGES)
        assert image_of(await start(api, make_spawner("ada", groups=FORECASTERS))) == FORECAST
        write_profiles(IMAGES.replace("name: Statistics", "nmae: Statistics"))
        assert image_of(await start(api, make_spawner("ada", groups=FORECASTERS))) == FORECAST
        with pytest.raises(StartRefusedError, match="no image 'Other' for ada"):
            await make_spawner("ada", groups=FORECASTERS, user_options=choose("Other")).start()

    async def test_ignoring_that_there_are_no_profiles_ignores_the_choice_too(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner
    ) -> None:
        options = choose("Other")
        spawner = make_spawner("ada", groups=FORECASTERS, user_options=options, failure_policy="ignore")
        assert await spawner.get_options_form() == ""
        assert image_of(await start(api, spawner)) == HUBS
        assert spawner.user_options == options


def override(**traits: Any) -> list[dict[str, Any]]:
    """A `profile_list` of a plain profile, the default, and another one that sets these."""
    return [
        {"display_name": "Plain", "slug": "plain", "default": True},
        {"display_name": "Another", "slug": "another", "kubespawner_override": traits},
    ]


ANOTHER = "quay.io/example/another:1"
UNLISTED = [
    {
        "display_name": "Another",
        "slug": "another",
        "profile_options": {
            "image": {
                "display_name": "Image",
                "choices": {"base": {"display_name": "Base", "kubespawner_override": {"image": "base:1"}}},
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Other",
                    "kubespawner_override": {"image": "{value}"},
                },
            }
        },
    }
]
WITH_PROFILE_LIST = [
    pytest.param(override(image=ANOTHER), {}, id="an-image"),
    pytest.param(lambda _: override(image=ANOTHER), {}, id="a-callable-list"),
    pytest.param(override(image=lambda spawner: ANOTHER), {}, id="a-callable-image"),
    pytest.param(UNLISTED, {"image--unlisted-choice": ANOTHER}, id="an-unlisted-choice"),
    pytest.param(override(extra_container_config={"image": ANOTHER}), {}, id="extra-container-config"),
    pytest.param(
        override(image=ANOTHER, extra_container_config={"image": "quay.io/example/third:1"}),
        {},
        id="both-of-these",
    ),
]


class TestBesideKubeSpawnersFeatures:
    @pytest.mark.parametrize(("profile_list", "options"), WITH_PROFILE_LIST)
    async def test_the_entry_overrides_profile_list(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        profile_list: Any,
        options: dict[str, Any],
    ) -> None:
        write_profiles(IMAGES)
        config = Config(KubeSpawner={"profile_list": profile_list})
        options = {"profile": "another", **options}
        for name, image, profile in (("", FORECAST, "forecast"), ("Statistics", STATISTICS, None)):
            user_options = options | choose(name)
            pod = await start(api, make_spawner("ada", groups=FORECASTERS, config=config, user_options=user_options))
            assert (image_of(pod), matched(pod)) == (image, profile)

    @pytest.mark.parametrize("groups", [TEACHERS, ()], ids=["an-entry-without-image", "no-entry"])
    @pytest.mark.parametrize(("profile_list", "options"), WITH_PROFILE_LIST[:5])
    async def test_otherwise_profile_list_decides(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        profile_list: Any,
        options: dict[str, Any],
        groups: tuple[str, ...],
    ) -> None:
        write_profiles(IMAGES)
        config = Config(KubeSpawner={"profile_list": profile_list})
        options = {"profile": "another", **options}
        pod = await start(api, make_spawner("ada", groups=groups, config=config, user_options=options))
        assert (pod["spec"]["containers"][0]["image"], matched(pod)) == (ANOTHER, "another")

    async def test_what_else_a_profile_of_profile_list_sets_still_counts(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(IMAGES)
        traits: dict[str, Any] = {
            "image": ANOTHER,
            "image_pull_secrets": ["theirs"],
            "default_url": "/theirs",
            "environment": {"THEIRS": "yes"},
            "extra_container_config": {"workingDir": "/theirs"},
        }
        config = Config(KubeSpawner={"profile_list": override(**traits)})
        for name, secrets, url in (
            ("Forecasting", ["forecast-registry"], "/rstudio"),
            ("Statistics", ["theirs"], "/theirs"),
            ("Hub default", ["theirs"], "/tree"),
        ):
            options = {"profile": "another", **choose(name)}
            pod = await start(api, make_spawner("ada", groups=FORECASTERS, config=config, user_options=options))
            assert (secrets_of(pod), url_of(pod), env_of(pod)["THEIRS"]) == (secrets, url, "yes")
            assert pod["spec"]["containers"][0]["workingDir"] == "/theirs"

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            pytest.param(
                {"profile": "another"}, f"{FORECAST}, which the document offers, instead of {ANOTHER}", id="other"
            ),
            pytest.param({"profile": "plain"}, None, id="none"),
            pytest.param({}, None, id="the-default-one"),
            pytest.param({"profile": "another", **choose("Hub default")}, None, id="an-entry-without-image"),
            pytest.param({"profile": "same"}, None, id="the-same"),
        ],
    )
    async def test_the_log_says_whose_image_was_overridden(
        self,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        api: EmbeddedAPI,
        caplog: pytest.LogCaptureFixture,
        options: dict[str, Any],
        told: str | None,
    ) -> None:
        caplog.set_level(logging.INFO)
        write_profiles(IMAGES)
        same = {"display_name": "Same", "slug": "same", "kubespawner_override": {"image": FORECAST}}
        config = Config(KubeSpawner={"profile_list": [*override(image=ANOTHER), same]})
        await start(api, make_spawner("ada", groups=FORECASTERS, config=config, user_options=options))
        lines = [record.getMessage() for record in caplog.records if "which the document offers" in record.getMessage()]
        assert lines == ([f"ada runs {told}, which profile_list gave it"] if told else [])

    async def test_the_entry_overrides_group_overrides(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        if not hasattr(KubeSpawner, "group_overrides"):
            pytest.skip("this JupyterHub has no group_overrides")
        write_profiles(IMAGES)
        traits = {"image": ANOTHER, "default_url": "/theirs", "environment": {"THEIRS": "yes"}}
        config = Config()
        config.KubeSpawner.group_overrides = {
            "10": {"groups": ["forecasters", "teachers", "staff"], "spawner_override": traits}
        }
        for group, image, url in (
            ("forecasters", FORECAST, "/rstudio"),
            ("teachers", ANOTHER, "/tree"),
            ("staff", ANOTHER, "/theirs"),
        ):
            spawner = make_spawner("ada", groups=(group,), config=config)
            await spawner.apply_group_overrides()
            pod = await start(api, spawner)
            assert (image_of(pod), url_of(pod), env_of(pod)["THEIRS"]) == (image, url, "yes")

    async def test_a_form_of_the_hubs_own_keeps_its_options(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(IMAGES)

        def interpret(form: dict[str, list[str]]) -> dict[str, Any]:
            return {"image": form["image"][0], "seen": sorted(form)}

        async def apply(spawner: KubeSpawner, options: dict[str, Any]) -> None:
            spawner.image = options["image"]

        config = Config(KubeSpawner={"options_form": "<input name='image'>"})
        for groups, image in ((FORECASTERS, STATISTICS), ((), ANOTHER)):
            spawner = make_spawner("ada", groups=groups, config=config, options_from_form=interpret)
            form = await spawner.get_options_form()
            assert form.startswith("<input name='image'>")
            assert ("profiled-image" in form) is bool(groups)
            fields = {"image": [ANOTHER], **({"profiled-image": ["Statistics"]} if groups else {})}
            spawner.user_options = await spawner.run_options_from_form(fields)
            assert spawner.user_options == {
                "image": ANOTHER,
                "seen": ["image"],
                **(choose("Statistics") if groups else {}),
            }
            # JupyterHub calls `apply_user_options` before the start.
            await apply(spawner, spawner.user_options)
            assert image_of(await start(api, spawner)) == image
            assert spawner.image == ANOTHER


class TestNothingRemains:
    @pytest.mark.parametrize("secrets", [["the-hubs"], [{"name": "the-hubs"}], []])
    async def test_after_a_start(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, secrets: list[Any]
    ) -> None:
        write_profiles(IMAGES)
        config = Config(KubeSpawner={"image_pull_secrets": secrets, "default_url": "/lab"})
        spawner = make_spawner("ada", groups=FORECASTERS, config=config)
        before = settings_of(spawner)
        pod = await start(api, spawner)
        assert (image_of(pod), secrets_of(pod), url_of(pod)) == (FORECAST, ["forecast-registry"], "/rstudio")
        assert settings_of(spawner) == before
        spawner.user_options = choose("Hub default")
        pod = await start(api, spawner)
        assert (image_of(pod), secrets_of(pod), url_of(pod)) == (HUBS, ["the-hubs"] if secrets else [], "/tree")
        spawner.user.groups = []
        spawner.user_options = {}
        pod = await start(api, spawner)
        assert (image_of(pod), secrets_of(pod), url_of(pod)) == (HUBS, ["the-hubs"] if secrets else [], "/lab")
        assert settings_of(spawner) == before

    @pytest.mark.parametrize(
        ("failing", "error"),
        [
            pytest.param("the-api-server-refuses", ApiException, id="the-api-server-refuses"),
            pytest.param("a-profile-conflicts", ProfilesUnavailableError, id="a-profile-conflicts"),
            pytest.param("kubespawner-raises", KeyError, id="kubespawner-raises"),
            pytest.param("a-hook-raises", KeyError, id="a-hook-raises"),
            pytest.param("cancelled", asyncio.CancelledError, id="cancelled"),
        ],
    )
    async def test_after_a_start_that_failed(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        clock: Clock,
        failing: str,
        error: type[BaseException],
    ) -> None:
        write_profiles(IMAGES)
        config = Config(KubeSpawner={"image_pull_secrets": ["the-hubs"], "default_url": "/lab"})
        config.KubeSpawner.k8s_api_request_timeout = SHORT_SECONDS
        config.KubeSpawner.volumes = [{"name": "home", "emptyDir": {}}]
        spawner = make_spawner("ada", groups=FORECASTERS, config=config)
        during: list[str] = []

        def fail(*_: Any) -> Any:
            during.append(spawner.image)
            raise KeyError

        if failing == "the-api-server-refuses":
            api.faults.append(Fault("status", status=500, verb="create", resource="pods"))
        elif failing == "a-profile-conflicts":
            write_profiles(
                IMAGES.replace("MATCHED: forecast}", "X: x}, volumes: [{name: home, mountPath: /x, emptyDir: {}}]")
            )
        elif failing == "kubespawner-raises":
            spawner.environment = {"FAILS": fail}
        elif failing == "a-hook-raises":
            spawner.modify_pod_hook = fail
        before = settings_of(spawner)
        if failing == "cancelled":
            hanging = Fault("hang", verb="create", resource="pods")
            api.faults.append(hanging)
            starting = spawner.start()
            await until(lambda: not hanging.times)
            starting.cancel()
            await asyncio.sleep(0)
            # It waits for the request, which may have been taken.
            assert not starting.done()
            clock.forward(2 * SHORT_SECONDS)
            with pytest.raises(error):
                await starting
        else:
            with pytest.raises(error):
                await spawner.start()
        assert during == {"kubespawner-raises": [FORECAST], "a-hook-raises": [HUBS]}.get(failing, [])
        after = settings_of(spawner)
        assert {name for name in after if after[name] != before[name]} <= {"consecutive_failure_limit"}


class TestObserving:
    @pytest.mark.parametrize(
        ("options", "observed", "told"),
        [
            pytest.param({}, {"applied": ["of forecast"]}, "Would apply to ada on", id="nothing-chosen"),
            pytest.param(choose("Statistics"), {"applied": []}, "Would apply to ada on", id="chosen"),
            pytest.param(
                choose("Other"),
                {"refused": "what was chosen is not offered"},
                "Would not start ada, because there is no image 'Other' for ada",
                id="not-offered",
            ),
        ],
    )
    async def test_nothing_is_changed_and_what_would_be_is_told(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
        options: dict[str, Any],
        observed: dict[str, Any],
        told: str,
    ) -> None:
        caplog.set_level(logging.INFO)
        write_profiles(IMAGES)
        config = Config(KubeSpawner={"image_pull_secrets": ["the-hubs"], "default_url": "/lab"})
        spawner = make_spawner("ada", groups=FORECASTERS, config=config, user_options=options, observe_only=True)
        before = settings_of(spawner)
        assert await spawner.get_options_form() == ""
        fields = {"profiled-image": ["Statistics"]}
        assert await spawner.run_options_from_form(fields) == {}
        pod = await start(api, spawner)
        assert (image_of(pod), secrets_of(pod), url_of(pod), matched(pod)) == (HUBS, ["the-hubs"], "/lab", None)
        annotation = json.loads(pod["metadata"]["annotations"]["profiled-spawner/observed"])
        assert {name: annotation[name] for name in observed} == observed
        assert settings_of(spawner) == before
        assert told in caplog.text

    async def test_the_log_names_the_image_that_would_run(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        write_profiles(IMAGES)
        await start(api, make_spawner("ada", groups=FORECASTERS, observe_only=True))
        assert f'Would apply to ada on {FORECAST}: ["of forecast"]' in caplog.text


TIMES = """
timezone: Europe/Athens
profiles:
- {name: before, until: 2026-12-01T14:00, env: {WHEN: before}}
- {name: after, from: 2026-12-01T14:00, env: {WHEN: after}}
sizes:
- {name: Exam, until: 2026-12-01T14:00, env: {SIZE: exam}}
images:
- {name: Before, until: 2026-12-01T14:00, image: 'before:1'}
- {name: After, from: 2026-12-01T14:00, image: 'after:1'}
"""
BOUNDARY = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()


class Moments:
    """The time of day, as the spawner is told."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    moments = Moments(BOUNDARY - 0.001)
    monkeypatch.setattr("profiled_spawner.hub.spawner.time", moments)
    return moments


def when(pod: dict[str, Any]) -> tuple[str, str | None, str | None]:
    env = env_of(pod)
    return image_of(pod), env.get("WHEN"), env.get("SIZE")


class TestTimes:
    @pytest.mark.usefixtures("user_namespaces")
    @pytest.mark.parametrize("waits_for", ["the-configmap", "its-namespace", "nothing"])
    async def test_the_moment_is_when_the_start_began(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        moments: Moments,
        waits_for: str,
    ) -> None:
        write_profiles(TIMES)
        spawner = make_spawner("ada", user_options={"profiled": {"image": "Before", "size": "Exam"}})
        spawner.enable_user_namespaces = waits_for == "its-namespace"
        may_go_on = asyncio.Event()
        waiting = Fault(
            gate=may_go_on,
            **{
                "the-configmap": {"verb": "get", "resource": "configmaps"},
                "its-namespace": {"verb": "create", "resource": "namespaces"},
                "nothing": {"verb": "create", "resource": "pods"},
            }[waits_for],
        )
        api.faults.append(waiting)
        starting = spawner.start()
        await until(lambda: not waiting.times)
        moments.now = BOUNDARY
        may_go_on.set()
        await starting
        pod = api.get("pods", spawner.namespace, spawner.pod_name)
        await spawner.stop(now=True)
        assert when(pod) == ("before:1", "before", "exam")

        # The next start of the same server begins at the boundary.
        with pytest.raises(StartRefusedError, match="no image 'Before' for ada; choose one of: After"):
            await spawner.start()
        spawner.user_options = {"profiled": {"image": "After"}}
        assert when(await start(api, spawner)) == ("after:1", "after", None)
        spawner.user_options = {"profiled": {"size": "Exam"}}
        with pytest.raises(StartRefusedError, match="no size 'Exam' for ada; choose one of: default"):
            await spawner.start()

    async def test_the_form_offers_what_counts_now(
        self, make_spawner: MakeSpawner, write_profiles: WriteProfiles, moments: Moments
    ) -> None:
        write_profiles(TIMES + "- {name: Always, image: 'always:1'}\n")
        spawner = make_spawner("ada")
        page = await spawner.get_options_form()
        assert ('value="Before"' in page, 'value="After"' in page, 'value="Exam"' in page) == (True, False, True)
        moments.now = BOUNDARY
        page = await spawner.get_options_form()
        assert ('value="Before"' in page, 'value="After"' in page, 'value="Exam"' in page) == (False, True, False)

    async def test_an_observed_start_is_told_of_the_moment_when_it_began(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, moments: Moments
    ) -> None:
        write_profiles(TIMES)
        spawner = make_spawner("ada", observe_only=True)
        may_go_on = asyncio.Event()
        waiting = Fault(gate=may_go_on, verb="get", resource="configmaps")
        api.faults.append(waiting)
        starting = asyncio.create_task(start(api, spawner))
        await until(lambda: not waiting.times)
        moments.now = BOUNDARY
        may_go_on.set()
        pod = await starting
        assert json.loads(pod["metadata"]["annotations"]["profiled-spawner/observed"])["applied"] == ["before"]
