"""The main job: a hub, its proxy and the servers as processes of their own, and a ConfigMap between two starts."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping

import pytest

from sandbox.api import EmbeddedAPI, Fault
from sandbox.assembly import NAMESPACE, Sandbox
from sandbox.client import HubError
from sandbox.shim import children
from sandbox.waiting import PATIENCE, until

from ..conftest import API_SERVERS, make_api_server

pytestmark = pytest.mark.processes

IMAGE = "quay.io/example/forecast-notebook:3.6"
DOCUMENT = f"""
profiles:
  - name: globals
    env:
      TEAM_ENDPOINT: https://datalake.example.org
      LITERAL: '{{"a": 1}} ${{HOME}}'
    resources: {{mem_limit: 1Gi, cpu_limit: 500m}}
  - name: forecasting
    images: ['{IMAGE}']
    users: [ada]
    groups: [forecasters]
    env:
      - {{name: BUCKET, value: forecast}}
      - {{name: BUCKET_URL, value: $(TEAM_ENDPOINT)/$(BUCKET)}}
      - name: BUCKET_KEY
        valueFrom: {{secretKeyRef: {{name: bucket, key: key}}}}
    resources: {{mem_limit: 2Gi, mem_guarantee: 512Mi}}
"""


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request, token=secrets.token_hex(16))


@pytest.fixture
async def sandbox(api_server: EmbeddedAPI) -> AsyncIterator[Sandbox]:
    before = set(children(os.getpid()))
    traits = {"KubeSpawner": PATIENCE}
    async with Sandbox(DOCUMENT, groups={"forecasters": ["grace"]}, traits=traits, api=api_server) as sandbox:
        sandbox.api.put(
            {"kind": "Secret", "metadata": {"name": "bucket", "namespace": NAMESPACE}, "stringData": {"key": "k3y"}}
        )
        yield sandbox
    assert set(children(os.getpid())) <= before
    assert not sandbox.directory.exists()


async def start(sandbox: Sandbox, user: str, image: str = IMAGE) -> Mapping[str, str]:
    """Start a user's server and return its kernel's environment."""
    await sandbox.client.create_user(user)
    await sandbox.client.start_server(user, image)
    return (await sandbox.look_into(user)).environment


async def test_a_servers_environment_and_limits_are_those_of_the_configmap_when_it_starts(sandbox: Sandbox) -> None:
    await sandbox.client.create_user("ada")
    await sandbox.client.start_server("ada", IMAGE)
    before = await sandbox.look_into("ada")
    edited = DOCUMENT.replace("users: [ada]", "users: [barbara]").replace("mem_limit: 1Gi", "mem_limit: 1536Mi")
    sandbox.write_document(edited)
    unchanged = await sandbox.look_into("ada")
    await sandbox.client.stop_server("ada")
    await sandbox.client.start_server("ada", IMAGE)
    after = await sandbox.look_into("ada")

    assert before.profiles == ["globals", "forecasting"]
    assert before.limits == {"memory": "2Gi", "cpu": "500m"}
    assert before.environment["TEAM_ENDPOINT"] == "https://datalake.example.org"
    assert before.environment["LITERAL"] == '{"a": 1} ${HOME}'
    assert before.environment["BUCKET_URL"] == "https://datalake.example.org/forecast"
    assert before.environment["BUCKET_KEY"] == "k3y"
    assert before.environment["MEM_LIMIT"] == str(2 * 1024**3)
    assert before.environment["MEM_GUARANTEE"] == str(512 * 1024**2)
    assert before.environment["CPU_LIMIT"] == "0.5"

    assert unchanged.environment["BUCKET"] == "forecast"

    assert after.profiles == ["globals"]
    assert after.limits == {"memory": "1536Mi", "cpu": "500m"}
    assert after.environment["TEAM_ENDPOINT"] == "https://datalake.example.org"
    assert after.environment["MEM_LIMIT"] == str(1536 * 1024**2)
    assert after.environment.keys() & {"BUCKET", "BUCKET_URL", "BUCKET_KEY", "MEM_GUARANTEE"} == set()


async def test_each_user_has_the_profiles_that_fit(sandbox: Sandbox) -> None:
    grace, edsger = await asyncio.gather(
        start(sandbox, "grace"), start(sandbox, "edsger", "quay.io/example/minimal-notebook:latest")
    )

    assert grace["BUCKET"] == "forecast"
    assert grace["MEM_LIMIT"] == str(2 * 1024**3)
    assert "BUCKET" not in edsger
    assert edsger["MEM_LIMIT"] == str(1024**3)


async def test_a_hub_without_a_good_document_refuses_and_goes_on(sandbox: Sandbox) -> None:
    sandbox.write_document("profiles: [{nmae: broken}]")
    await sandbox.client.create_user("ada")
    with pytest.raises(HubError, match="please ask the administrators of this JupyterHub"):
        await sandbox.client.start_server("ada", IMAGE)

    assert sandbox.api.list("pods") == []
    (warning,) = sandbox.hub.profile_warnings()
    assert "profiles[0].nmae: unknown key; did you mean 'name'?" in warning

    sandbox.write_document(DOCUMENT)
    await sandbox.client.start_server("ada", IMAGE)
    assert (await sandbox.look_into("ada")).profiles == ["globals", "forecasting"]


async def test_a_person_sees_what_was_applied_while_the_server_starts(sandbox: Sandbox) -> None:
    await sandbox.client.create_user("ada")
    # Its container is not started before this is told.
    may_run = asyncio.Event()
    sandbox.api.faults.append(Fault(gate=may_run, verb="patch", resource="pods"))
    starting = asyncio.create_task(sandbox.client.start_server("ada", IMAGE))
    await until(lambda: sandbox.api.list("pods"))
    told = []
    async for event in sandbox.client.progress("ada"):
        told.append(event["message"])
        if event["message"].startswith("Profiles applied"):
            may_run.set()
    await starting

    assert "Profiles applied: globals, forecasting. 2 GiB of memory (512 MiB guaranteed), 0.5 CPU." in told
    assert any("Started container notebook" in message for message in told)


async def test_no_value_is_in_any_log(sandbox: Sandbox) -> None:
    await start(sandbox, "ada")
    logs = [sandbox.hub.log_file, *(sandbox.directory / "logs").iterdir()]

    assert len(logs) == 2
    for log in logs:
        text = log.read_text()
        assert "datalake.example.org" not in text
        assert "k3y" not in text
