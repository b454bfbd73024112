"""`ProfiledKubeSpawner` alone, against an API server: what ends in the pod, and what goes on working beside it."""

from __future__ import annotations

import asyncio
import json
import logging
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from jupyterhub import spawner as jupyterhub_spawner
from kubernetes_asyncio.client import ApiException
from kubespawner import KubeSpawner
from prometheus_client import REGISTRY
from traitlets.config import Config

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.errors import PodError
from profiled_spawner.hub.spawner import ProfilesUnavailableError, StartRefusedError
from sandbox.api import EmbeddedAPI, Fault
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import SHORT_SECONDS, Clock, until

from ..conftest import API_SERVERS, CONFIGMAP, NAMESPACE, MakeSpawner, WriteProfiles, make_api_server

DOCUMENT = """
profiles:
- name: globals
  env: {GLOBAL: everywhere, SHARED: from-globals}
  resources: {mem_limit: 1Gi, cpu_limit: 500m}
- name: forecasting
  images: ['quay.io/example/forecast:*']
  users: [ada]
  groups: [forecasters]
  env: {SHARED: from-forecasting, BRACES: '{"a": 1} ${HOME} {}'}
  resources: {mem_limit: 2Gi, cpu_limit: 1}
"""
TERM = "{matchExpressions: [{key: k%d, operator: In, values: [%s]}]}"
FORECAST = "quay.io/example/forecast:3.6"


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


def env_of(pod: dict[str, Any], container: int = 0) -> dict[str, Any]:
    variables = pod["spec"]["containers"][container].get("env", [])
    env = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in variables}
    assert len(env) == len(variables), "a variable stands in the list twice"
    return env


def resources_of(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["spec"]["containers"][0]["resources"]


async def start(api: EmbeddedAPI, spawner: ProfiledKubeSpawner) -> dict[str, Any]:
    """Starts a server, stops it again, and returns the pod that was created."""
    await spawner.start()
    pod = api.get("pods", spawner.namespace, spawner.pod_name)
    await spawner.stop(now=True)
    return pod


def created(api: EmbeddedAPI) -> list[str]:
    """What a spawner has created in the cluster."""
    return [request.resource for request in api.requests if request.verb == "create" and request.resource != "events"]


@pytest.fixture(autouse=True)
def running(kubelet: PaperKubelet) -> None:
    """Every test has a kubelet."""


def test_it_is_found_through_its_entry_point() -> None:
    (entry_point,) = entry_points(group="jupyterhub.spawners", name="profiled-kubespawner")
    assert entry_point.load() is ProfiledKubeSpawner
    assert issubclass(ProfiledKubeSpawner, KubeSpawner)


async def test_the_profiles_that_fit_are_in_the_pod(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    written = write_profiles(DOCUMENT)
    pod = await start(api, make_spawner("ada", image=FORECAST))
    env = env_of(pod)
    assert env["GLOBAL"] == "everywhere"
    assert env["SHARED"] == "from-forecasting"
    assert env["BRACES"] == '{"a": 1} ${HOME} {}'
    assert env["MEM_LIMIT"] == str(2 * 2**30)
    assert env["CPU_LIMIT"] == "1"
    assert env["JUPYTERHUB_USER"] == "ada"
    assert resources_of(pod)["limits"] == {"memory": "2Gi", "cpu": "1"}
    annotations = pod["metadata"]["annotations"]
    assert json.loads(annotations["profiled-spawner/applied"]) == ["globals", "forecasting"]
    version = written["metadata"]["resourceVersion"]
    assert annotations["profiled-spawner/source"] == f"configmap/{NAMESPACE}/{CONFIGMAP}@{version}"


async def test_a_groups_member_gets_what_the_group_gets(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    pod = await start(api, make_spawner("grace", groups=("forecasters",), image=FORECAST))
    assert env_of(pod)["SHARED"] == "from-forecasting"
    pod = await start(api, make_spawner("edsger", image=FORECAST))
    assert env_of(pod)["SHARED"] == "from-globals"


async def test_an_edit_counts_at_the_next_start_of_the_same_server(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    spawner = make_spawner("ada", image=FORECAST)
    assert "BRACES" in env_of(await start(api, spawner))
    write_profiles("profiles: [{name: new, env: {NEW: here}}]")
    env = env_of(await start(api, spawner))
    assert env["NEW"] == "here"
    assert not {"GLOBAL", "SHARED", "BRACES", "MEM_LIMIT", "CPU_LIMIT"} & env.keys()


async def test_no_trait_is_changed_by_a_profile(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    write_profiles(DOCUMENT)
    spawner = make_spawner("ada", image=FORECAST, environment={"MINE": "1"})
    before = {name: repr(getattr(spawner, name)) for name in ("environment", "mem_limit", "cpu_limit")}
    await start(api, spawner)
    assert {name: repr(getattr(spawner, name)) for name in before} == before


async def test_without_a_profile_that_fits_the_pod_is_kubespawners(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    write_profiles("profiles: []")
    traits: dict[str, Any] = {"mem_limit": "1G", "cpu_guarantee": 0.5, "environment": {"A": "1", "B": "$(A)"}}
    pod = await start(api, make_spawner("ada", **traits))
    assert resources_of(pod) == {
        "limits": {"memory": "1073741824"},
        "requests": {"memory": "1073741824", "cpu": "500m"},
    }
    assert json.loads(pod["metadata"]["annotations"]["profiled-spawner/applied"]) == []


async def test_the_hubs_own_settings_stay_where_no_profile_speaks(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    write_profiles("profiles: [{resources: {cpu_limit: 2}}]")
    config = Config()
    config.KubeSpawner.mem_limit = "3G"
    config.KubeSpawner.mem_guarantee = "1G"
    config.KubeSpawner.environment = {"OWN": "{username}"}
    pod = await start(api, make_spawner("ada", config=config))
    env = env_of(pod)
    assert env["OWN"] == "ada"
    assert env["MEM_LIMIT"] == str(3 * 2**30)
    assert env["MEM_GUARANTEE"] == str(2**30)
    assert env["CPU_LIMIT"] == "2"
    assert resources_of(pod)["limits"]["cpu"] == "2"


async def test_no_gpu_leaves_none_in_the_pod(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    # Of any amount, 0 included, the admission plugin ExtendedResourceToleration makes a toleration of GPU nodes.
    write_profiles("profiles: [{gpu: 0, resources: {mem_limit: 1Gi, requests: {example.com/dongle: 0}}}]")
    pod = await start(api, make_spawner("ada", extra_resource_limits={"nvidia.com/gpu": 1, "example.com/dongle": 1}))
    resources = resources_of(pod)
    assert resources["limits"].keys() == {"memory"}
    assert resources.get("requests", {}).keys() <= {"memory"}


async def test_a_limit_below_the_hubs_guarantee_lowers_it_quietly(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    write_profiles("profiles: [{name: small, resources: {mem_limit: 512Mi}}]")
    spawner = make_spawner("ada", mem_guarantee="1G")
    spawner.log.setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        pod = await start(api, spawner)
    assert resources_of(pod)["requests"]["memory"] == "512Mi"
    assert env_of(pod)["MEM_GUARANTEE"] == str(512 * 2**20)
    (record,) = [record for record in caplog.records if "the limit is used for both" in record.getMessage()]
    assert record.levelno == logging.DEBUG


async def test_a_limit_below_a_profiles_guarantee_is_warned_of(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    write_profiles(
        "profiles: [{name: big, resources: {mem_guarantee: 1Gi}}, {name: small, resources: {mem_limit: 512Mi}}]"
    )
    pod = await start(api, make_spawner("ada"))
    assert resources_of(pod)["requests"]["memory"] == "512Mi"
    (record,) = [record for record in caplog.records if "the limit is used for both" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert "the guarantee of 1Gi (big) is above the limit of 512Mi (small)" in record.getMessage()


def failed_reads() -> float:
    """How many requests for the main ConfigMap have failed."""
    labels = {"source": f"configmap/{NAMESPACE}/{CONFIGMAP}", "outcome": "unavailable"}
    return REGISTRY.get_sample_value("profiled_spawner_reads_total", labels) or 0


def spawns(outcome: str) -> float:
    return REGISTRY.get_sample_value("profiled_spawner_spawns_total", {"outcome": outcome}) or 0


class TestBesideKubeSpawnersFeatures:
    async def test_the_image_of_profile_list_is_the_one_that_is_matched(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        config = Config()
        config.KubeSpawner.profile_list = [
            {"display_name": "Plain", "slug": "plain", "default": True},
            {
                "display_name": "Forecast",
                "slug": "forecast",
                "kubespawner_override": {"image": FORECAST, "environment": {"CHOSEN": "yes"}},
            },
        ]
        chosen = env_of(await start(api, make_spawner("ada", config=config, user_options={"profile": "forecast"})))
        assert chosen["SHARED"] == "from-forecasting"
        assert chosen["CHOSEN"] == "yes"
        plain = env_of(await start(api, make_spawner("ada", config=config, user_options={"profile": "plain"})))
        assert plain["SHARED"] == "from-globals"

    async def test_an_unlisted_image_is_matched_as_it_was_typed(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        config = Config()
        config.KubeSpawner.profile_list = [
            {
                "display_name": "Any",
                "slug": "any",
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
        for typed, expected in ((FORECAST, "from-forecasting"), (f"evil.example/{FORECAST}", "from-globals")):
            options = {"profile": "any", "image--unlisted-choice": typed}
            pod = await start(api, make_spawner("ada", config=config, user_options=options))
            assert pod["spec"]["containers"][0]["image"] == typed
            assert env_of(pod)["SHARED"] == expected

    async def test_group_overrides_are_under_the_profiles(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        if not hasattr(KubeSpawner, "group_overrides"):
            pytest.skip("this JupyterHub has no group_overrides")
        write_profiles(DOCUMENT)
        config = Config()
        config.KubeSpawner.group_overrides = {
            "10-forecast": {"groups": ["forecasters"], "spawner_override": {"image": FORECAST, "mem_limit": "8G"}}
        }
        spawner = make_spawner("grace", groups=("forecasters",), config=config)
        await spawner.apply_group_overrides()
        pod = await start(api, spawner)
        assert env_of(pod)["SHARED"] == "from-forecasting"
        assert resources_of(pod)["limits"]["memory"] == "2Gi"

    async def test_modify_pod_hook_has_the_last_word(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        seen: list[dict[str, str]] = []

        def hook(spawner: KubeSpawner, pod: Any) -> Any:
            seen.append({variable.name: variable.value for variable in pod.spec.containers[0].env})
            pod.spec.containers[0].resources.limits["memory"] = "7Gi"
            return pod

        pod = await start(api, make_spawner("ada", modify_pod_hook=hook))
        assert seen[0]["GLOBAL"] == "everywhere"
        assert resources_of(pod)["limits"]["memory"] == "7Gi"

    async def test_named_servers_have_profiles_too(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        config = Config()
        config.KubeSpawner.pod_name_template = "jupyter-{username}--{servername}"
        spawner = make_spawner("ada", config=config)
        spawner.orm_spawner = type("OrmSpawner", (), {"name": "second", "server": None})()
        spawner.pod_name = "jupyter-ada--second"
        pod = await start(api, spawner)
        assert pod["metadata"]["name"] == "jupyter-ada--second"
        assert env_of(pod)["JUPYTERHUB_SERVER_NAME"] == "second"
        assert env_of(pod)["GLOBAL"] == "everywhere"

    @pytest.mark.usefixtures("user_namespaces")
    async def test_user_namespaces_do_not_move_the_configmap(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        config = Config()
        config.KubeSpawner.enable_user_namespaces = True
        config.KubeSpawner.user_namespace_template = "jhub-{username}"
        pod = await start(api, make_spawner("ada", config=config))
        assert pod["metadata"]["namespace"] == "jhub-ada"
        assert env_of(pod)["GLOBAL"] == "everywhere"

    async def test_extra_containers_get_nothing_of_a_profile(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        extra = [{"name": "sidecar", "image": "sidecar:1", "env": [{"name": "OWN", "value": "1"}]}]
        pod = await start(api, make_spawner("ada", extra_containers=extra, get_pod_url=lambda *_: "http://127.0.0.1"))
        assert env_of(pod)["GLOBAL"] == "everywhere"
        assert env_of(pod, container=1) == {"OWN": "1"}
        assert "limits" not in pod["spec"]["containers"][1].get("resources", {})

    async def test_extra_container_config_is_built_upon(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        extra = {
            "env": [{"name": "SHARED", "value": "admin"}, {"name": "USES", "value": "$(GLOBAL)"}],
            "resources": {"limits": {"memory": "9Gi", "example.com/dongle": "1"}},
            "imagePullPolicy": "Always",
        }
        spawner = make_spawner("ada", image=FORECAST, extra_container_config=extra)
        pod = await start(api, spawner)
        names = [variable["name"] for variable in pod["spec"]["containers"][0]["env"]]
        assert names.index("GLOBAL") < names.index("USES")
        assert env_of(pod)["SHARED"] == "from-forecasting"
        assert resources_of(pod)["limits"] == {"memory": "2Gi", "cpu": "1", "example.com/dongle": "1"}
        assert pod["spec"]["containers"][0]["imagePullPolicy"] == "Always"
        assert spawner.extra_container_config["resources"]["limits"]["memory"] == "9Gi"

    async def test_internal_ssl_makes_its_secret_and_service(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, tmp_path: Path
    ) -> None:
        write_profiles(DOCUMENT)
        paths = {}
        for name in ("keyfile", "certfile", "cafile", "hub-ca"):
            (tmp_path / name).write_text(name)
            paths[name] = str(tmp_path / name)
        bundles = {"hub-ca": paths.pop("hub-ca")}
        spawner = make_spawner("ada", internal_ssl=True, cert_paths=paths, internal_trust_bundles=bundles)
        await spawner.start()
        pod = api.get("pods", NAMESPACE, spawner.pod_name)
        assert env_of(pod)["GLOBAL"] == "everywhere"
        assert env_of(pod)["JUPYTERHUB_SSL_KEYFILE"].endswith("ssl.key")
        assert {"secrets", "services"} <= set(created(api))
        await spawner.stop(now=True)


class TestWhenTheProfilesCannotBeRead:
    @pytest.mark.parametrize("fault", ["missing", "forbidden", "invalid", "unreachable"])
    async def test_nothing_is_created_and_the_user_is_told_whom_to_ask(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
        clock: Clock,
        fault: str,
    ) -> None:
        told = {
            "missing": "there is no ConfigMap 'jupyter-singleuser-profiles' in namespace 'jhub'",
            "forbidden": 'apiGroups: [""], resources: ["configmaps"]',
            "invalid": "profiles[0].nmae: unknown key; did you mean 'name'?",
            "unreachable": "retries included; the last was: the API server could not be asked",
        }
        match fault:
            case "forbidden":
                api.deny("get", "configmaps")
            case "invalid":
                write_profiles("profiles: [{nmae: x, env: {FOO: canary-value}}]")
            case "unreachable":
                api.faults.append(Fault("close", resource="configmaps", times=None))
        config = Config()
        config.KubeSpawner.enable_user_namespaces = True
        config.KubeSpawner.storage_pvc_ensure = True
        config.KubeSpawner.pvc_name_template = "claim-{username}"
        config.KubeSpawner.storage_capacity = "1Gi"
        spawner = make_spawner("ada", config=config, k8s_api_request_retry_timeout=SHORT_SECONDS)
        failed = failed_reads()
        starting = spawner.start()
        if fault == "unreachable":
            # Not the requests that the API server sees: the client sends one again by itself.
            await until(lambda: failed_reads() > failed)
            clock.forward(SHORT_SECONDS)
        with pytest.raises(ProfilesUnavailableError) as caught:
            await starting
        error = caught.value
        assert str(error) == error.jupyterhub_message
        assert "ask the administrators" in str(error)
        assert error.status_code == 503
        assert created(api) == []
        assert told[fault] in caplog.text
        assert "canary" not in caplog.text

    async def test_a_page_without_them_starts_nothing_and_says_so(
        self, make_spawner: MakeSpawner, caplog: pytest.LogCaptureFixture
    ) -> None:
        spawner = make_spawner("ada")
        with caplog.at_level(logging.INFO):
            assert await spawner.get_options_form() == ""
        (line,) = [record for record in caplog.records if "because" in record.getMessage()]
        assert line.levelno == logging.INFO
        assert line.getMessage().startswith("Showing the spawn page with no sizes, because there is no ConfigMap ")
        with pytest.raises(ProfilesUnavailableError):
            await spawner.start()
        assert "Starting no server, because there is no ConfigMap " in caplog.text

    async def test_the_failure_is_not_counted_by_the_hub(self, make_spawner: MakeSpawner) -> None:
        spawner = make_spawner("ada")
        spawner.consecutive_failure_limit = 5
        with pytest.raises(ProfilesUnavailableError) as caught:
            await spawner.start()
        spawn_exception = getattr(jupyterhub_spawner, "SpawnException", None)
        if spawn_exception:
            assert isinstance(caught.value, spawn_exception)
            assert spawner.consecutive_failure_limit == 5
        else:
            # JupyterHub 5 reads its limit from the spawner that failed.
            assert spawner.consecutive_failure_limit == 0

    async def test_the_last_good_document_is_used_and_named(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        good = await start(api, (write_profiles(DOCUMENT), make_spawner("ada"))[1])
        write_profiles("profiles:")
        pod = await start(api, make_spawner("ada"))
        assert env_of(pod)["GLOBAL"] == "everywhere"
        source = "profiled-spawner/source"
        assert pod["metadata"]["annotations"][source] == good["metadata"]["annotations"][source]

    async def test_ignore_starts_without_profiles_and_names_no_source(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner
    ) -> None:
        pod = await start(api, make_spawner("ada", failure_policy="ignore"))
        assert json.loads(pod["metadata"]["annotations"]["profiled-spawner/applied"]) == []
        assert "profiled-spawner/source" not in pod["metadata"]["annotations"]


class TestReadingAFile:
    async def test_the_file_is_read_at_every_start(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, tmp_path: Path
    ) -> None:
        path = tmp_path / "profiles.yaml"
        for value in ("one", "two"):
            path.write_text(f"profiles: [{{env: {{FOO: {value}}}}}]")
            pod = await start(api, make_spawner("ada", profiles_file=str(path)))
            assert env_of(pod)["FOO"] == value
        assert not [request for request in api.requests if request.resource == "configmaps"]


class TestWhatIsSeen:
    async def test_one_line_in_the_log_has_names_and_no_values(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write_profiles(DOCUMENT.replace("everywhere", "canary-value"))
        with caplog.at_level(logging.INFO):
            await start(api, make_spawner("ada", image=FORECAST))
        (line,) = [record.getMessage() for record in caplog.records if "Profiles for" in record.getMessage()]
        assert '["globals", "forecasting"]; env ["BRACES", "GLOBAL", "SHARED"]; 2 GiB of memory, 1 CPU; from' in line
        assert "canary" not in caplog.text

    @pytest.mark.parametrize("events_enabled", [True, False])
    async def test_progress_tells_what_was_applied(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, events_enabled: bool
    ) -> None:
        write_profiles(DOCUMENT)
        spawner = make_spawner("ada", image=FORECAST, mem_guarantee="1G", events_enabled=events_enabled)
        starting = spawner.start()
        messages = [event["message"] async for event in spawner.progress()]
        await starting
        assert messages.count("Profiles applied: globals, forecasting. 2 GiB of memory (1 GiB guaranteed), 1 CPU.") == 1
        await spawner.stop(now=True)

    async def test_progress_ends_when_the_start_fails_late(
        self, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(DOCUMENT)
        spawner = make_spawner("ada", events_enabled=False, user_options={"profile": "none-such"})
        spawner.profile_list = [{"display_name": "Only", "slug": "only"}]
        starting = spawner.start()
        assert [event async for event in spawner.progress()] == []
        with pytest.raises(ValueError, match="No such profile"):
            await starting

    async def test_what_does_not_go_with_the_pod_ends_the_start(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write_profiles("profiles: [{name: team, volumes: [{name: home, mountPath: /team, emptyDir: {}}]}]")
        spawner = make_spawner("ada", volumes=[{"name": "home", "emptyDir": {}}])
        with pytest.raises(ProfilesUnavailableError, match="its settings do not go together; please ask the admin"):
            await spawner.start()
        assert "Not starting ada, because team has a volume 'home', and so has the pod already" in caplog.text
        assert created(api) == []

    @pytest.mark.parametrize("first", ["stopped", "failed"])
    async def test_progress_of_a_second_start_tells_of_that_alone(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, first: str
    ) -> None:
        write_profiles("profiles: [{name: first}]")
        spawner = make_spawner("ada")
        if first == "stopped":
            await start(api, spawner)
        else:
            # The summary is there when creating the pod fails.
            api.deny("create", "pods")
            with pytest.raises(ProfilesUnavailableError, match="Kubernetes refuses it with its settings"):
                await spawner.start()
            api.allow("create", "pods")
        write_profiles("profiles: [{name: second}]")
        api.faults.append(Fault(delay=0.2, verb="get", resource="configmaps"))
        starting = spawner.start()
        messages = [event["message"] async for event in spawner.progress()]
        await starting
        assert messages[0].startswith("Profiles applied: second. ")
        assert not [message for message in messages if "first" in message]
        await spawner.stop(now=True)

    @pytest.mark.parametrize("first", ["stopped", "failed"])
    async def test_progress_of_a_second_start_that_fails_tells_nothing_of_the_first(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, first: str
    ) -> None:
        write_profiles("profiles: [{name: first}]")
        spawner = make_spawner("ada", failure_policy="fail")
        if first == "stopped":
            await start(api, spawner)
        else:
            api.deny("create", "pods")
            with pytest.raises(ProfilesUnavailableError, match="Kubernetes refuses it with its settings"):
                await spawner.start()
        write_profiles("profiles: [{nmae: second}]")
        starting = spawner.start()
        assert await anext(spawner.progress(), None) is None
        with pytest.raises(ProfilesUnavailableError):
            await starting

    async def test_a_refused_pod_is_logged_without_its_values(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write_profiles(DOCUMENT.replace("everywhere", "canary-value"))
        api.deny("create", "pods")
        spawner = make_spawner("ada", image=FORECAST)
        with pytest.raises(ProfilesUnavailableError, match="Kubernetes refuses it with its settings"):
            await spawner.start()
        assert "Failed for" in caplog.text
        assert '"name": "GLOBAL"' in caplog.text
        assert "Not starting ada, because the API server refuses its pod (403): pods is forbidden: " in caplog.text
        assert "canary" not in caplog.text

    @pytest.mark.parametrize(
        ("document", "status", "is_ours"),
        [
            pytest.param("profiles: [{env: {A: a}}]", 422, True, id="invalid"),
            pytest.param("profiles: [{env: {A: a}}]", 403, True, id="quota-or-policy"),
            pytest.param("profiles: [{env: {A: a}}]", 413, True, id="too-large"),
            pytest.param("profiles: [{env: {A: a}}]", 500, False, id="not-about-the-pod"),
            pytest.param("profiles: [{users: [grace]}]", 422, False, id="no-profiles-in-it"),
        ],
    )
    async def test_a_pod_that_is_refused_with_profiles_in_it_is_refused_by_us(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        document: str,
        status: int,
        is_ours: bool,
    ) -> None:
        write_profiles(document)
        api.faults.append(Fault("status", status=status, verb="create", resource="pods"))
        outcome = spawns("failed"), spawns("current")
        with pytest.raises(ProfilesUnavailableError if is_ours else ApiException):
            await make_spawner("ada").start()
        assert (spawns("failed"), spawns("current")) == (outcome[0] + is_ours, outcome[1])

    @pytest.mark.parametrize("unseen", ["\n", "\r", "\x1b[31m", "\x9b", "\u2028", "\u202e", "\ud800"])
    async def test_nothing_that_somebody_named_steers_the_log_or_the_page(
        self,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        unseen: str,
    ) -> None:
        escaped = unseen.encode("unicode_escape").decode()
        named = json.dumps(f"big{'' if unseen == chr(0xD800) else unseen}")
        write_profiles(
            f"profiles: [{{name: {named}, resources: {{mem_guarantee: 1Gi}}}}, {{resources: {{mem_limit: 1}}}}]"
        )
        spawner = make_spawner("ada", image=f"nb:1{unseen}INFO")
        # JupyterHub lets nobody have such a name today; of a named server, older ones took nearly any.
        monkeypatch.setattr(type(spawner), "_log_name", f"ada:{unseen}x")
        with caplog.at_level(logging.INFO):
            await spawner.get_pod_manifest()
            reading = asyncio.create_task(anext(spawner.progress()))
            message = (await reading)["message"]

            def refuse(*_: object) -> None:
                raise PodError(f"mounts a volume at /mnt{unseen}")

            monkeypatch.setattr("profiled_spawner.hub.spawner.inject_profile", refuse)
            with pytest.raises(ProfilesUnavailableError):
                await spawner.get_pod_manifest()
        lines = [record.getMessage() for record in caplog.records if record.module == "spawner"]
        assert [line for line in [*lines, message] if not line.isprintable()] == []
        assert any(line.startswith(f"Profiles for ada:{escaped}x on nb:1{escaped}INFO: ") for line in lines)
        assert f"Not starting ada:{escaped}x, because mounts a volume at /mnt{escaped}" in lines
        assert any(line.startswith(f"For ada:{escaped}x, memory: the guarantee of 1Gi (big") for line in lines)


SIZES = """
profiles: [{name: ours, users: [ada], images: ['quay.io/example/*'], resources: {mem_limit: 1Gi}, env: {A: profile}}]
sizes:
- {name: Large, resources: {mem_limit: 8Gi}, env: {A: size}}
- {name: Other, users: [grace]}
"""
LARGE = {"profiled": {"size": "Large"}}


class TestSizes:
    async def test_the_chosen_one_is_in_the_pod_and_in_the_log_and_gone_at_the_next_start(
        self,
        api: EmbeddedAPI,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write_profiles(SIZES)
        spawner = make_spawner("ada", user_options=LARGE)
        with caplog.at_level(logging.INFO):
            pod = await start(api, spawner)
        assert (env_of(pod)["A"], resources_of(pod)["limits"]["memory"]) == ("size", "8Gi")
        assert json.loads(pod["metadata"]["annotations"]["profiled-spawner/applied"]) == ["ours", "size Large"]
        assert '["ours", "size Large"]; env ["A"]; 8 GiB of memory, no CPU limit; from' in caplog.text
        spawner.user_options = {}
        pod = await start(api, spawner)
        assert (env_of(pod)["A"], resources_of(pod)["limits"]["memory"]) == ("profile", "1Gi")

    async def test_in_the_documents_order_too_it_is_the_last(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        pod = await start(api, make_spawner("ada", user_options=LARGE, merge_order="document"))
        assert env_of(pod)["A"] == "size"

    async def test_one_that_is_not_to_be_had_ends_the_start_before_anything_is_created(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        spawner = make_spawner("ada", user_options={"profiled": {"size": "Other"}}, enable_user_namespaces=True)
        starting = spawner.start()
        assert [event async for event in spawner.progress()] == []
        with pytest.raises(
            StartRefusedError, match="no size 'Other' for ada; choose one of: default, Large"
        ) as refusal:
            await starting
        assert refusal.value.status_code == 400
        assert created(api) == []

    @pytest.mark.parametrize("form", ["<b>ours</b>", lambda spawner: f"<b>{spawner.user.name}</b>"])
    async def test_the_hubs_own_form_stands_above_them(
        self, make_spawner: MakeSpawner, write_profiles: WriteProfiles, form: Any
    ) -> None:
        config = Config()
        config.KubeSpawner.options_form = form
        spawner = make_spawner("ada", config=config)
        write_profiles("profiles: []")
        own = await spawner.get_options_form()
        assert own in ("<b>ours</b>", "<b>ada</b>")
        write_profiles(SIZES)
        both = await spawner.get_options_form()
        assert both.startswith(own)
        assert both.removeprefix(own).startswith("<fieldset")

    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_the_hubs_own_interpretation_of_the_form_is_kept(
        self, make_spawner: MakeSpawner, asynchronous: bool
    ) -> None:
        def interpret(form: dict[str, list[str]]) -> dict[str, Any]:
            return {"seen": sorted(form)}

        async def interpret_later(form: dict[str, list[str]]) -> dict[str, Any]:
            return interpret(form)

        spawner = make_spawner("ada", options_from_form=interpret_later if asynchronous else interpret)
        form = {"size": ["theirs"], "profiled-size": ["Large"]}
        ours = {"profiled-image": ["One"], "profiled-size": ["default"]}
        for options_of in (spawner.run_options_from_form, spawner.options_from_query):
            assert await options_of(form) == {"seen": ["size"], **LARGE}
            assert await options_of({**form, **ours}) == {
                "seen": ["size"],
                "profiled": {"image": "One", "size": "default"},
            }
            assert await options_of({"size": ["theirs"]}) == {"seen": ["size"]}

    async def test_an_option_size_of_the_hubs_own_form_is_not_ours(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)

        def interpret(form: dict[str, list[str]]) -> dict[str, Any]:
            return {"size": form["size"][0]}

        for theirs in ("Large", "no such size"):
            spawner = make_spawner("ada", options_from_form=interpret)
            spawner.environment = {"CHOSEN": lambda spawner: spawner.user_options["size"]}
            spawner.user_options = await spawner.run_options_from_form({"size": [theirs]})
            env = env_of(await start(api, spawner))
            assert (env["CHOSEN"], env["A"]) == (theirs, "profile")
            spawner.user_options = await spawner.run_options_from_form({"size": [theirs], "profiled-size": ["Large"]})
            env = env_of(await start(api, spawner))
            assert (env["CHOSEN"], env["A"]) == (theirs, "size")

    @pytest.mark.parametrize("dynamic", [False, True])
    async def test_an_option_size_of_profile_list_is_kubespawners(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, dynamic: bool
    ) -> None:
        write_profiles(SIZES)
        choices = {
            name: {"display_name": name, "kubespawner_override": {"environment": {"CHOSEN": name}}}
            for name in ("small", "Large")
        }
        profiles = [
            {
                "display_name": "Only",
                "slug": "only",
                "profile_options": {"size": {"display_name": "Size", "choices": choices}},
            }
        ]
        config = Config()
        config.KubeSpawner.profile_list = (lambda _: profiles) if dynamic else profiles
        page = await make_spawner("ada", config=config).get_options_form()
        assert "profile-option-only--size" in page
        assert "profiled-size" in page
        for choice, ours, given in (
            ("small", "default", "profile"),
            ("small", "Large", "size"),
            ("Large", "default", "profile"),
            ("Large", "Large", "size"),
        ):
            spawner = make_spawner("ada", config=config)
            form = {"profile": ["only"], "profile-option-only--size": [choice], "profiled-size": [ours]}
            spawner.user_options = await spawner.run_options_from_form(form)
            assert spawner.user_options == {"profile": "only", "size": choice, "profiled": {"size": ours}}
            env = env_of(await start(api, spawner))
            assert (env["CHOSEN"], env["A"]) == (choice, given)

    async def test_ignoring_that_there_are_no_profiles_ignores_the_size_too(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner
    ) -> None:
        spawner = make_spawner("ada", user_options=LARGE, failure_policy="ignore")
        assert await spawner.get_options_form() == ""
        pod = await start(api, spawner)
        assert json.loads(pod["metadata"]["annotations"]["profiled-spawner/applied"]) == []

    async def test_the_last_good_sizes_are_offered_while_there_is_no_answer(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, clock: Clock
    ) -> None:
        write_profiles(SIZES)
        spawner = make_spawner("ada", k8s_api_request_timeout=SHORT_SECONDS)
        form = await spawner.get_options_form()
        write_profiles("profiles: []")
        hanging = Fault("hang", resource="configmaps")
        api.faults.append(hanging)
        asking = asyncio.create_task(spawner.get_options_form())
        await until(lambda: not hanging.times)
        clock.forward(SHORT_SECONDS)
        assert await asking == form


async def test_the_configmap_is_looked_for_where_the_hub_runs(
    api: EmbeddedAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiled_spawner.hub.kubespawner.hub_namespaces", ["hub-namespace"])
    spawner = ProfiledKubeSpawner(_mock=True, config=Config(KubeSpawner={"namespace": "servers"}))
    assert spawner.namespace == "servers"
    assert spawner.configmap_namespace == "hub-namespace"


@pytest.mark.usefixtures("label_selectors")
async def test_profiles_of_several_configmaps_are_told_apart(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    labels = {"team": "yes"}
    versions = [
        write_profiles("profiles: [{name: globals, env: {A: main, B: main}}]")["metadata"]["resourceVersion"],
        write_profiles("profiles: [{name: globals, env: {B: team}}, {}]", name="aviation", labels=labels)["metadata"][
            "resourceVersion"
        ],
    ]
    spawner = make_spawner("ada", configmap_label_selector="team=yes")
    progress = asyncio.create_task(anext(spawner.progress()))
    await asyncio.sleep(0)

    pod = await start(api, spawner)

    assert env_of(pod)["A"] == "main"
    assert env_of(pod)["B"] == "team"
    annotations = pod["metadata"]["annotations"]
    applied = ["globals", "aviation/globals", "aviation/profiles[1]"]
    assert json.loads(annotations["profiled-spawner/applied"]) == applied
    origin = f"configmap/{NAMESPACE}/{CONFIGMAP}@{versions[0]}, configmap/{NAMESPACE}/aviation@{versions[1]}"
    assert annotations["profiled-spawner/source"] == origin
    assert f"from {origin}" in caplog.text
    assert (await progress)["message"].startswith("Profiles applied: globals, aviation/globals, aviation/profiles[1].")


@pytest.mark.usefixtures("label_selectors")
async def test_a_teams_typo_neither_blocks_a_server_nor_freezes_the_others(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    labels = {"team": "yes"}
    write_profiles("profiles: [{env: {A: main}}]")
    write_profiles("profiles: [{nmae: typo}]", name="one", labels=labels)
    write_profiles("profiles: [{env: {B: first}}]", name="two", labels=labels)
    spawner = make_spawner("ada", configmap_label_selector="team=yes", failure_policy="fail")
    assert env_of(await start(api, spawner))["B"] == "first"
    write_profiles("profiles: [{env: {B: second}}]", name="two", labels=labels)
    assert env_of(await start(api, spawner))["B"] == "second"


@pytest.mark.usefixtures("label_selectors")
@pytest.mark.parametrize(
    ("team", "why"),
    [
        pytest.param(
            "profiles: [{name: x, groups: [team], volumes: [{name: home, mountPath: /x, emptyDir: {}}]}]",
            "team/x has a volume 'home', and so has the pod already",
            id="a-volume-that-the-pod-has",
        ),
        pytest.param(
            "profiles:"
            + "".join(
                f"\n- {{name: x, groups: [team], node_affinity: {{requiredDuringSchedulingIgnoredDuringExecution: "
                f"{{nodeSelectorTerms: [{', '.join(TERM % (number, value) for value in 'abcde')}]}}}}}}"
                for number in range(3)
            ),
            "combined, the node requirements of the profiles have more than 100 alternatives",
            id="too-many-alternatives",
        ),
        pytest.param(
            "profiles:" + "\n- {name: x, groups: [team]}" * 501,
            "more than 500 profiles match, whatever their time, and a server can have no more",
            id="too-many-profiles",
        ),
        pytest.param(
            "profiles:" + "".join(f"\n- {{name: x, groups: [team], env: {{A{number}: a}}}}" for number in range(299)),
            "301 variables, and a server can have 300 (env); most of it is from ",
            id="too-many-variables",
        ),
    ],
)
async def test_a_selected_configmap_harms_only_whom_it_reaches(
    api: EmbeddedAPI,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    caplog: pytest.LogCaptureFixture,
    team: str,
    why: str,
) -> None:
    write_profiles("profiles: [{env: {GIVEN: main, ALSO: main}}]")
    write_profiles(team, name="team", labels={"team": "yes"})
    settings = {"configmap_label_selector": "team=yes", "volumes": [{"name": "home", "emptyDir": {}}]}
    with pytest.raises(ProfilesUnavailableError, match="its settings do not go together"):
        await make_spawner("ada", groups=("team",), **settings).start()
    assert (
        f"Not starting ada, because {'the profiles that match give ' if 'variables' in why else ''}{why}" in caplog.text
    )
    assert created(api) == []
    assert env_of(await start(api, make_spawner("bob", **settings)))["GIVEN"] == "main"


TEAM_BOUNDS = """
teams:
  - name: forecasting
    configmaps: [forecasting]
    groups: [forecasters]
    may: [env, env_from, resources, sizes, images]
    hard: {limits.memory: 4Gi, requests.nvidia.com/gpu: 1}
    refers: ['forecasting-*']
"""


@pytest.mark.usefixtures("label_selectors")
@pytest.mark.parametrize(
    ("document", "given"),
    [
        pytest.param("profiles: [{env: {FOO: team}}]", True, id="what-it-may"),
        pytest.param("profiles: [{users: ['*'], env: {FOO: team}, resources: {mem_limit: 4Gi}}]", True, id="star"),
        pytest.param("profiles: [{groups: [staff], env: {FOO: team}}]", False, id="for-another-group"),
        pytest.param("profiles: [{users: [eve], env: {FOO: team}}]", False, id="for-another-user"),
        pytest.param("profiles: [{env: {FOO: team}, resources: {mem_limit: 4097Mi}}]", False, id="too-much"),
        pytest.param("profiles: [{env: {FOO: team}, resources: {mem_limit: null}}]", False, id="without-a-limit"),
        pytest.param("profiles: [{env: {FOO: team}, gpu: 2}]", False, id="too-many-gpus"),
        pytest.param("profiles: [&a {env: {FOO: team}}, {<<: *a, labels: {team: other}}]", False, id="a-label"),
        pytest.param(
            "profiles: [{env: {FOO: team, A: {valueFrom: {secretKeyRef: {name: 'forecasting-{username}', key: k}}}}}]",
            True,
            id="a-secret-of-its-own",
        ),
        pytest.param(
            "profiles: [{env: {FOO: team, A: {valueFrom: {secretKeyRef: {name: '{username}', key: k}}}}}]",
            False,
            id="a-secret-of-whoever-is-called-so",
        ),
        pytest.param(
            # The default server has no name, and KubeSpawner drops the hyphen.
            "profiles: [{env: {FOO: team}, env_from: [{secretRef: {name: 'forecasting-{servername}'}}]}]",
            False,
            id="a-secret-without-its-hyphen",
        ),
        pytest.param(
            "profiles: [{env: {FOO: team}}]\nimages: [{name: x, image: evil, users: [eve]}]", True, id="image"
        ),
        pytest.param(
            "profiles: [{env: {FOO: team}}]\nimages: [{name: x, image: evil, image_pull_secrets: [hub]}]",
            False,
            id="an-image-with-the-hubs-secret",
        ),
        pytest.param(
            f"profiles: [{', '.join(['{users: [eve], images: [x*], env: {FOO: team}}'] * 501)}]", False, id="many"
        ),
    ],
)
async def test_a_teams_configmap_gives_only_what_it_may_and_only_to_the_team(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, document: str, given: bool
) -> None:
    write_profiles(f"profiles: [{{env: {{FOO: main}}, resources: {{mem_limit: 1Gi}}}}]{TEAM_BOUNDS}")
    write_profiles(document, name="forecasting", labels={"team": "yes"})
    write_profiles("profiles: [{env: {FOO: teamless}}]", name="teamless", labels={"team": "yes"})
    settings: dict[str, Any] = {"configmap_label_selector": "team=yes", "image": "xyz"}
    others = await start(api, make_spawner("eve", groups=("staff",), **settings))
    assert env_of(others)["FOO"] == "main"
    assert resources_of(others)["limits"] == {"memory": "1Gi"}
    assert others["spec"]["containers"][0]["image"] == "xyz"
    members = await start(api, make_spawner("ada", groups=("forecasters",), **settings))
    assert env_of(members)["FOO"] == ("team" if given else "main")
    assert resources_of(members)["limits"]["memory"] == ("4Gi" if "4Gi" in document else "1Gi")
    assert members["spec"]["containers"][0]["image"] == "xyz"


@pytest.mark.usefixtures("label_selectors")
async def test_a_lower_bound_holds_from_the_next_start_on(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    write_profiles("profiles: [{resources: {mem_limit: 2Gi}}]", name="forecasting", labels={"team": "yes"})
    for bound, limit in (("4Gi", "2Gi"), ("1Gi", None), ("2Gi", "2Gi")):
        write_profiles(f"profiles: []{TEAM_BOUNDS.replace('4Gi', bound)}")
        spawner = make_spawner("ada", groups=("forecasters",), configmap_label_selector="team=yes")
        assert resources_of(await start(api, spawner)).get("limits", {}).get("memory") == limit
