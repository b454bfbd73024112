"""The command, as a person, a script and an editor use it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from profiled_spawner import ProfiledKubeSpawner, __version__
from profiled_spawner.command.assertions import make_test_schema
from profiled_spawner.command.main import DEFAULT_KEY, main
from profiled_spawner.document.json_schema import make_schema
from profiled_spawner.document.parser import validate_document
from profiled_spawner.sources.extract import MAX_MANIFEST_BYTES
from sandbox.api import EmbeddedAPI, Fault
from sandbox.waiting import HANG_SECONDS

from ..conftest import CONFIGMAP, KEY, WriteProfiles

IMAGE = "quay.io/example/forecast-notebook:3.6"

GOOD = """\
profiles:
  - name: globals
    env: {ENDPOINT: CANARY-endpoint}
    resources: {mem_limit: 1Gi, cpu_limit: 500m}
  - name: forecasting
    users: [ada]
    images: ['quay.io/example/forecast-notebook:3.6']
    env: {BUCKET: CANARY-bucket, PORT: 80}
    resources: {mem_limit: 2Gi, cpu_limit: 1}
"""

BAD = """\
profiles:
  - name: globals
    users: [Ada]
    resorces: {mem_limit: 1Gi}
    resources: {mem_limit: 2GB}
"""

SUMMARY = "2 errors, 1 warning; a hub keeps using the last good document, if it has one"

MANIFEST = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: jupyter-singleuser-profiles}
data:
  other.txt: nothing
  jupyterhub-singleuser-profiles.yaml: |
    profiles:
      - nmae: globals
"""

Run = Callable[..., tuple[int, str, str]]
Write = Callable[..., str]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without wishes, in a directory where paths can be relative."""
    for name in ("NO_COLOR", "FORCE_COLOR", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write() -> Write:
    def write(text: str | bytes, name: str = "profiles.yaml") -> str:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command here; returns its exit code and what it printed to both outputs."""

    def run(*arguments: str, stdin: bytes | None = None) -> tuple[int, str, str]:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="ascii"))
        try:
            code = main(arguments)
        except SystemExit as exit_:
            code = exit_.code  # type: ignore[assignment]
        out, err = capsys.readouterr()
        return code, out, err

    return run


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "profiled_spawner", *arguments]


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command as a process of its own."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=HANG_SECONDS, check=False, **options
    )


class TestValidate:
    def test_a_good_document_gets_one_friendly_line(self, run: Run, write: Write) -> None:
        assert run("validate", write(GOOD)) == (0, "✔ profiles.yaml: 2 profiles, no errors\n", "")

    def test_every_error_and_warning_has_a_line_that_editors_can_follow(self, run: Run, write: Write) -> None:
        code, out, err = run("validate", write(BAD))

        assert (code, err) == (1, "")
        assert out.splitlines() == [
            "profiles.yaml:3:13: warning: profiles[0].users[0]: 'Ada' has capitals, and JupyterHub lower-cases "
            "usernames unless told otherwise; did you mean 'ada'?",
            "profiles.yaml:4:5: error: profiles[0].resorces: unknown key; did you mean 'resources'?",
            "profiles.yaml:5:28: error: profiles[0].resources.mem_limit: 2GB is not a Kubernetes quantity; "
            "did you mean 2Gi or 2G?",
            SUMMARY,
        ]

    def test_places_in_a_manifest_are_the_files(self, run: Run, write: Write) -> None:
        code, out, _ = run("validate", write(MANIFEST))

        assert code == 1
        assert out.startswith("profiles.yaml:8:9: error: profiles[0].nmae: unknown key; did you mean 'name'?\n")

    def test_warnings_are_only_counted_in_strict_mode(self, run: Run, write: Write) -> None:
        path = write("profiles: [{users: [Ada]}]")

        assert [run("validate", path)[0], run("validate", "--strict", path)[0]] == [0, 1]
        assert run("validate", path)[1].splitlines()[-1] == "1 profile, no errors, 1 warning"
        assert run("validate", "--strict", write(GOOD))[0] == 0

    def test_a_document_that_gives_nobody_anything_is_good(self, run: Run, write: Write) -> None:
        assert run("validate", write("profiles: []")) == (0, "✔ profiles.yaml: no profiles, no errors\n", "")

    def test_what_is_more_than_a_hundred_errors_is_counted(self, run: Run, write: Write) -> None:
        path = write("profiles:\n" + "  - {nope: 1}\n" * 130)

        code, out, _ = run("validate", path)

        assert code == 1
        assert len(out.splitlines()) == 102
        assert out.splitlines()[-2:] == [
            "…and 30 more errors",
            "130 errors; a hub keeps using the last good document, if it has one",
        ]
        assert json.loads(run("validate", "--format", "json", path)[1])["omitted"] == 30
        assert run("validate", "--format", "github", path)[1].splitlines()[-2] == "...and 30 more errors"

    def test_json_is_one_object(self, run: Run, write: Write) -> None:
        code, out, err = run("validate", "--format", "json", write(BAD))

        assert (code, err) == (1, "")
        assert json.loads(out) == {
            "source": "profiles.yaml",
            "valid": False,
            "profiles": None,
            "errors": [
                {
                    "line": 4,
                    "column": 5,
                    "path": "profiles[0].resorces",
                    "what": "unknown key; did you mean 'resources'?",
                },
                {
                    "line": 5,
                    "column": 28,
                    "path": "profiles[0].resources.mem_limit",
                    "what": "2GB is not a Kubernetes quantity; did you mean 2Gi or 2G?",
                },
            ],
            "omitted": 0,
            "warnings": [
                {
                    "line": 3,
                    "column": 13,
                    "path": "profiles[0].users[0]",
                    "what": "'Ada' has capitals, and JupyterHub lower-cases usernames unless told otherwise; "
                    "did you mean 'ada'?",
                }
            ],
        }

    def test_json_of_a_good_document_counts_its_profiles(self, run: Run, write: Write) -> None:
        code, out, _ = run("validate", write(GOOD), "--format=json")

        assert code == 0
        assert json.loads(out) == {
            "source": "profiles.yaml",
            "valid": True,
            "profiles": 2,
            "errors": [],
            "omitted": 0,
            "warnings": [],
        }

    def test_several_files_are_told_of_in_turn(self, run: Run, write: Write) -> None:
        good, bad = write(GOOD), write("profiles: [{nmae: a}]", "bad.yaml")

        code, out, err = run("validate", good, bad, good)

        assert (code, err) == (1, "")
        assert out.splitlines() == [
            "✔ profiles.yaml: 2 profiles, no errors",
            "bad.yaml:1:13: error: profiles[0].nmae: unknown key; did you mean 'name'?",
            "1 error; a hub keeps using the last good document, if it has one",
            "✔ profiles.yaml: 2 profiles, no errors",
        ]

    def test_json_of_several_files_is_a_list(self, run: Run, write: Write) -> None:
        code, out, _ = run("validate", write(GOOD), write("profiles: []", "none.yaml"), "--format", "json")

        assert code == 0
        assert [(each["source"], each["valid"]) for each in json.loads(out)] == [
            ("profiles.yaml", True),
            ("none.yaml", True),
        ]

    def test_a_file_that_cannot_be_read_keeps_none_of_the_others_from_being_checked(
        self, run: Run, write: Write
    ) -> None:
        code, out, err = run("validate", "missing.yaml", write(BAD), write(GOOD, "good.yaml"))

        assert code == 2
        assert out.splitlines()[-2:] == [SUMMARY, "✔ good.yaml: 2 profiles, no errors"]
        assert err == "profiled-spawner: missing.yaml cannot be read: No such file or directory\n"

    def test_github_annotates_the_file(self, run: Run, write: Write) -> None:
        code, out, err = run("validate", "--format", "github", write(BAD))

        assert (code, err) == (1, "")
        assert out.splitlines() == [
            "::warning file=profiles.yaml,line=3,col=13,title=Profile document::profiles[0].users[0]: 'Ada' has "
            "capitals, and JupyterHub lower-cases usernames unless told otherwise; did you mean 'ada'?",
            "::error file=profiles.yaml,line=4,col=5,title=Invalid profile document::profiles[0].resorces: "
            "unknown key; did you mean 'resources'?",
            "::error file=profiles.yaml,line=5,col=28,title=Invalid profile document::"
            "profiles[0].resources.mem_limit: 2GB is not a Kubernetes quantity; did you mean 2Gi or 2G?",
            SUMMARY,
        ]

    def test_github_finds_the_file_from_the_workspace(
        self, run: Run, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        Path("deploy").mkdir()
        monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
        monkeypatch.chdir("deploy")

        assert "::error file=deploy/profiles.yaml,line=4," in run("validate", "--format", "github", write(BAD))[1]

    def test_github_escapes_what_would_end_a_property_or_a_line(self, run: Run, write: Write) -> None:
        path = write('profiles: [{users: ["A 100%\\n::error::"]}]', "a,b:c%.yaml")

        line = run("validate", "--format", "github", path)[1].splitlines()[0]

        assert line.startswith("::warning file=a%2Cb%3Ac%25.yaml,line=1,col=21,title=Profile document::profiles")
        assert "100%25" in line

    def test_github_says_the_place_where_there_is_no_file_to_annotate(self, run: Run) -> None:
        out = run("validate", "-", "--format", "github", stdin=BAD.encode())[1]

        assert "\n::error title=Invalid profile document::<stdin>:4:5: profiles[0].resorces: unknown key" in out


class TestSource:
    def test_the_standard_input_is_read_as_utf_8_bytes(self, run: Run) -> None:
        document = "profiles: [{name: Prévision, nope: 1}]"

        code, out, _ = run("validate", "-", stdin=document.encode())

        assert (code, out.splitlines()[0][:24]) == (1, "<stdin>:1:30: error: pro")

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            pytest.param(
                b"profiles:\n  - name: Pr\xe9vision", "2:13: error: not UTF-8 text; save it as UTF-8", id="Latin-1"
            ),
            pytest.param(b"", "1:1: error: empty; write 'profiles: []' if there are to be none", id="empty"),
            pytest.param(b"a: [", "1:5: error: the [ opened at line 1, column 4 is never closed", id="not YAML"),
            pytest.param(b" " * (MAX_MANIFEST_BYTES + 1), " error: larger than 4,194,304 bytes", id="too large"),
        ],
    )
    def test_what_is_no_document_is_an_error_of_it(self, run: Run, write: Write, raw: bytes, message: str) -> None:
        code, out, err = run("validate", write(raw))

        assert (code, err) == (1, "")
        assert out.startswith(f"profiles.yaml:{message}")

    def test_a_place_that_is_not_known_is_null_in_json(self, run: Run, write: Write) -> None:
        path = write(b" " * (MAX_MANIFEST_BYTES + 1))

        (error,) = json.loads(run("validate", path, "--format", "json")[1])["errors"]

        assert error == {"line": None, "column": None, "path": "", "what": "larger than 4,194,304 bytes"}
        assert run("validate", path, "--format", "github")[1].startswith(
            "::error file=profiles.yaml,title=Invalid profile document::larger than"
        )

    @pytest.mark.parametrize("command", ["validate", "explain", "render"])
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            pytest.param("nowhere.yaml", "nowhere.yaml cannot be read: No such file or directory", id="no file"),
            pytest.param(".", ". cannot be read: Is a directory", id="directory"),
            pytest.param("a\0b", "a\\x00b cannot be read: embedded null byte", id="no path"),
            pytest.param(
                "manifest.yaml",
                "manifest.yaml has no key 'jupyterhub-singleuser-profiles.yaml'; it has 'profiles.yaml'",
                id="no such key",
            ),
            pytest.param(
                "secret.yaml",
                "secret.yaml is of kind 'Secret', not ConfigMap; give the ConfigMap alone, or the document itself",
                id="another kind",
            ),
        ],
    )
    def test_a_source_that_cannot_be_read_is_no_fault_of_a_document(
        self, run: Run, write: Write, command: str, source: str, message: str
    ) -> None:
        write("apiVersion: v1\nkind: ConfigMap\ndata: {profiles.yaml: 'CANARY'}\n", "manifest.yaml")
        write("apiVersion: v1\nkind: Secret\ndata: {profiles.yaml: 'CANARY'}\n", "secret.yaml")
        subject = [] if command == "validate" else ["--user", "ada", "--image", IMAGE]

        assert run(command, source, *subject) == (2, "", f"profiled-spawner: {message}\n")

    def test_another_key_of_a_manifest_can_be_asked_for(self, run: Run, write: Write) -> None:
        path = write("apiVersion: v1\nkind: ConfigMap\ndata: {mine: 'profiles: []'}\n")

        assert run("validate", path, "--key", "mine")[0] == 0

    def test_the_key_is_the_spawners_by_default(self) -> None:
        assert ProfiledKubeSpawner.configmap_key.default_value == DEFAULT_KEY

    @pytest.mark.parametrize(
        "arguments",
        [
            ["validate", "--strict", "profiles.yaml"],
            ["validate", "profiles.yaml", "--strict"],
            ["validate", "--key", "x", "profiles.yaml", "--format", "text"],
            ["explain", "--user", "ada", "profiles.yaml", "--image", "x"],
            ["explain", "--user", "ada", "--image", "x", "profiles.yaml"],
        ],
    )
    def test_it_may_stand_anywhere_among_the_options(self, run: Run, write: Write, arguments: list[str]) -> None:
        write(GOOD)

        assert run(*arguments)[0] == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param([], "profiled-spawner: error: the following arguments are required: COMMAND", id="nothing"),
            pytest.param(["validate"], "one of the arguments SOURCE --configmap is required", id="no source"),
            pytest.param(["validate", "a", "--configmap", "b"], "not allowed with argument", id="two sources"),
            pytest.param(["validate", "--configmap", "a/b/c"], "'a/b/c' is not NAME or NAMESPACE/NAME", id="slashes"),
            pytest.param(["validate", "--configmap", "/b"], "'/b' is not NAME or NAMESPACE/NAME", id="no namespace"),
            pytest.param(["validate", "--configmap", ""], "'' is not NAME or NAMESPACE/NAME", id="no name"),
            pytest.param(
                ["validate", "a", "--label-selector", "b=c"], "--label-selector: needs --configmap", id="file"
            ),
            pytest.param(["explain", "a", "--user", "", "--image", "b"], "--user: must not be empty", id="no user"),
            pytest.param(["explain", "a", "--user", "\udcff", "--image", "b"], "--user: not UTF-8 text", id="bytes"),
        ],
    )
    def test_wrong_usage_is_told(self, run: Run, arguments: list[str], message: str) -> None:
        code, out, err = run(*arguments)

        assert (code, out) == (2, "")
        assert err.startswith("usage: profiled-spawner ")
        assert message in err


class TestConfigMap:
    pytestmark = pytest.mark.usefixtures("api")  # which the kubeconfig leads to

    @pytest.fixture(autouse=True)
    def patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Gives the API server, which runs beside the command, any time that it needs."""
        monkeypatch.setattr("profiled_spawner.command.inputs.API_TIMEOUT_SECONDS", HANG_SECONDS)

    @staticmethod
    async def run_beside_the_server(run: Run, *arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(run, *arguments)

    @pytest.mark.parametrize("name", [CONFIGMAP, f"jhub/{CONFIGMAP}"])
    async def test_it_is_read_from_the_cluster(self, run: Run, write_profiles: WriteProfiles, name: str) -> None:
        write_profiles(BAD)

        code, out, err = await self.run_beside_the_server(run, "validate", "--configmap", name)

        assert (code, err) == (1, "")
        assert out.splitlines()[1].startswith(f"configmap/jhub/{CONFIGMAP}:4:5: error: profiles[0].resorces: unknown")

    async def test_its_revision_is_what_a_rendered_pod_is_annotated_with(
        self, run: Run, write_profiles: WriteProfiles
    ) -> None:
        version = write_profiles(GOOD)["metadata"]["resourceVersion"]
        arguments = ["--configmap", CONFIGMAP, "--user", "ada", "--image", IMAGE, "--format", "json"]

        code, out, _ = await self.run_beside_the_server(run, "render", *arguments)

        assert code == 0
        source = json.loads(out)["metadata"]["annotations"]["profiled-spawner/source"]
        assert source == f"configmap/jhub/{CONFIGMAP}@{version}"

    async def test_what_is_not_there_is_told(self, run: Run, write_profiles: WriteProfiles) -> None:
        write_profiles(GOOD)

        for arguments, message in (
            (["other/none"], "there is no ConfigMap 'none' in namespace 'other'"),
            (["none"], "there is no ConfigMap 'none' in namespace 'jhub'"),
            ([CONFIGMAP, "--key", "k"], f"ConfigMap jhub/{CONFIGMAP} has no key 'k'; it has '{KEY}'"),
        ):
            result = await self.run_beside_the_server(run, "validate", "--configmap", *arguments)
            assert result == (2, "", f"profiled-spawner: {message}\n")

    async def test_what_may_not_be_read_is_told(
        self, api: EmbeddedAPI, run: Run, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(GOOD)
        api.deny("get", "configmaps")

        assert await self.run_beside_the_server(run, "validate", "--configmap", CONFIGMAP) == (
            2,
            "",
            f"profiled-spawner: you may not read configmap/jhub/{CONFIGMAP} with these credentials; "
            f"see `kubectl auth can-i get configmaps/{CONFIGMAP} --namespace jhub`\n",
        )

    async def test_a_cluster_that_does_not_answer_is_told(self, api: EmbeddedAPI, run: Run) -> None:
        api.faults.append(Fault("status", status=500))

        code, out, err = await self.run_beside_the_server(run, "validate", "--configmap", CONFIGMAP)

        assert (code, out) == (2, "")
        assert err.startswith("profiled-spawner: the API server answered 500 when asked for configmap/jhub/")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param(None, "there is no kubeconfig ({path})", id="none"),
            pytest.param("token: [CANARY", "the kubeconfig cannot be used (ParserError)", id="no YAML"),
        ],
    )
    async def test_a_kubeconfig_that_leads_nowhere_is_told(
        self, run: Run, tmp_path: Path, text: str | None, message: str
    ) -> None:
        path = tmp_path / "kubeconfig"
        path.unlink() if text is None else path.write_text(text)

        assert await self.run_beside_the_server(run, "validate", "--configmap", CONFIGMAP) == (
            2,
            "",
            f"profiled-spawner: cannot connect to a cluster: {message.format(path=path)}\n",
        )

    async def test_without_a_kubeconfig_a_pods_service_account_is_used(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "kubeconfig").unlink()
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")

        # This far, and no token: what a pod has stands at fixed places of its file system.
        _, _, err = await self.run_beside_the_server(run, "validate", "--configmap", CONFIGMAP)

        assert err == "profiled-spawner: cannot connect to a cluster: Service token file does not exist.\n"

    async def test_kubeconfigs_can_be_several_files(
        self, run: Run, tmp_path: Path, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(GOOD)
        environment = os.environ | {"KUBECONFIG": f"{tmp_path}/nowhere:{tmp_path}/kubeconfig"}

        result = await asyncio.to_thread(process, "validate", "--configmap", CONFIGMAP, env=environment)

        assert (result.returncode, result.stdout, result.stderr) == (
            0,
            f"✔ configmap/jhub/{CONFIGMAP}: 2 profiles, no errors\n",
            "",
        )


class TestSeveralConfigMaps:
    pytestmark = pytest.mark.usefixtures("api")

    @pytest.fixture
    def run_on(self, run: Run, write_profiles: WriteProfiles) -> Callable[..., Any]:
        """Runs a command on the main ConfigMap with those of two teams beside it."""

        async def run_on(command: str, *arguments: str, aviation: str, zoology: str = GOOD) -> tuple[int, str, str]:
            write_profiles(GOOD, labels={"team": "no"})
            write_profiles(zoology, name="zoology", labels={"team": "yes"})
            write_profiles(aviation, name="aviation", labels={"team": "yes"})
            options = ("--configmap", CONFIGMAP, "--label-selector", "team=yes", *arguments)
            return await asyncio.to_thread(run, command, *options)

        return run_on

    async def test_each_is_validated(self, run_on: Callable[..., Any]) -> None:
        code, out, err = await run_on("validate", aviation=BAD)

        assert (code, err) == (1, "")
        lines = out.splitlines()
        assert lines[0] == f"✔ configmap/jhub/{CONFIGMAP}: 2 profiles, no errors"
        assert lines[2].startswith("configmap/jhub/aviation:4:5: error: profiles[0].resorces: unknown key")
        assert lines[4:] == [SUMMARY, "✔ configmap/jhub/zoology: 2 profiles, no errors"]

    async def test_each_is_validated_for_programs(
        self, run_on: Callable[..., Any], write_profiles: WriteProfiles
    ) -> None:
        write_profiles("x", name="empty", key="other", labels={"team": "yes"})

        code, out, _ = await run_on("validate", "--format", "json", aviation=BAD)

        assert code == 1
        told = json.loads(out)
        assert (told["source"], told["valid"]) == (f"configmap/jhub/{CONFIGMAP}", True)
        assert [(each["source"], each["valid"]) for each in told["selected"]] == [
            ("configmap/jhub/aviation", False),
            ("configmap/jhub/empty", False),
            ("configmap/jhub/zoology", True),
        ]
        assert told["selected"][1]["errors"][0]["what"] == f"ConfigMap jhub/empty has no key '{KEY}'; it has 'other'"

    @pytest.mark.parametrize("command", [("validate",), ("explain", "--user", "ada", "--image", "x")], ids=" ".join)
    async def test_what_a_hub_would_leave_out_is_an_error(
        self, run_on: Callable[..., Any], write_profiles: WriteProfiles, command: tuple[str, ...]
    ) -> None:
        def with_patterns(number: int) -> str:
            return json.dumps({"profiles": [{"images": [f"{each}*" for each in range(number)]}]})

        teams = {"aviation": with_patterns(299), "zoology": with_patterns(300)}
        write_profiles(with_patterns(1), name="botany", labels={"team": "yes"})
        code, *_ = await run_on(*command, **teams)
        assert code == 0
        write_profiles(with_patterns(2), name="botany", labels={"team": "yes"})
        code, out, err = await run_on(*command, **teams)
        assert code == 1
        why = "the selected ConfigMaps have more than 600 different images with a star together, and it is one of"
        assert f"configmap/jhub/zoology: error: {why}" in out + err
        assert "aviation: error" not in out + err

    async def test_they_are_explained_as_one(self, run_on: Callable[..., Any]) -> None:
        subject = ("--user", "ada", "--image", "x", "--format", "json")
        code, out, err = await run_on("explain", *subject, aviation="profiles: [{env: {ENDPOINT: b}}]")

        assert (code, err) == (0, "")
        told = json.loads(out)
        known = [(each["index"], each["name"], each.get("configmap")) for each in told["profiles"]]
        assert known == [
            (0, "globals", None),
            (1, "forecasting", None),
            (2, None, "aviation"),
            (3, "globals", "zoology"),
            (4, "forecasting", "zoology"),
        ]
        assert told["applied"] == [0, 2, 3]
        assert told["env"] == [{"name": "ENDPOINT", "value": "***", "profile": 3, "overrides": [0, 2]}]
        assert told["resources"]["limits"]["memory"] == {"quantity": "1Gi", "profile": 3, "overrides": [0]}

    async def test_text_names_the_configmap_of_a_profile(self, run_on: Callable[..., Any]) -> None:
        code, out, _ = await run_on("explain", "--user", "ada", "--image", "x", aviation="profiles: [{env: {A: b}}]")

        assert code == 0
        assert "later overrides earlier: globals, aviation/profiles[0], zoology/globals" in out
        assert "from aviation/profiles[0]" in out

    @pytest.mark.parametrize("command", ["explain", "render"])
    async def test_one_that_is_broken_is_told_and_left_out(self, run_on: Callable[..., Any], command: str) -> None:
        code, out, err = await run_on(
            command, "--user", "ada", "--image", "x", "--format", "json", aviation=BAD, zoology="profiles: []"
        )

        assert code == 1
        assert err.startswith("configmap/jhub/aviation:")
        told = json.loads(out)
        if command == "explain":
            assert told["applied"] == [0]
        else:
            source = told["metadata"]["annotations"]["profiled-spawner/source"]
            assert [each.partition("@")[0] for each in source.split(", ")] == [
                f"configmap/jhub/{CONFIGMAP}",
                "configmap/jhub/zoology",
            ]

    async def test_what_may_not_be_listed_is_told(self, run_on: Callable[..., Any], api: EmbeddedAPI) -> None:
        api.deny("list", "configmaps")

        assert await run_on("validate", aviation=GOOD) == (
            2,
            "",
            "profiled-spawner: you may not list configmaps/jhub?labelSelector=team=yes with these credentials; "
            "see `kubectl auth can-i list configmaps --namespace jhub`\n",
        )


class TestExplain:
    def test_text_is_for_people(self, run: Run, write: Write) -> None:
        code, out, err = run("explain", write(GOOD), "--user", "ada", "--group", "a", "--group", "b", "--image", IMAGE)

        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[:3] == ["User    ada", "Groups  a, b", f"Image   {IMAGE}"]
        assert "  ✔ 1  forecasting  user is listed; image is listed" in lines
        assert "  BUCKET    ***  from forecasting" in lines
        assert "  memory  limit      2Gi    from forecasting, overrides globals" in lines

    def test_json_is_one_object(self, run: Run, write: Write) -> None:
        code, out, err = run("explain", write(GOOD), "--user", "ada", "--image", IMAGE, "--format", "json")

        assert (code, err) == (0, "")
        explained = json.loads(out)
        assert list(explained) == ["subject", "profiles", "applied", "env", "resources", "warnings"]
        assert explained["applied"] == [0, 1]
        assert explained["env"][0] == {"name": "BUCKET", "value": "***", "profile": 1}

    def test_values_and_the_merge_order_can_be_asked_for(self, run: Run, write: Write) -> None:
        path = write("profiles: [{users: [ada], env: {A: first}}, {env: {A: second}}]")
        arguments = ["explain", path, "--user", "ada", "--image", IMAGE, "--show-values"]

        assert "  A  first  from profiles[0], overrides profiles[1]" in run(*arguments)[1].splitlines()
        assert (
            "  A  second  from profiles[1], overrides profiles[0]"
            in run(*arguments, "--merge-order", "document")[1].splitlines()
        )

    @pytest.mark.parametrize("command", ["explain", "render"])
    def test_the_errors_of_a_document_are_told_as_validate_does(self, run: Run, write: Write, command: str) -> None:
        code, out, err = run(command, write(BAD), "--user", "ada", "--image", IMAGE, "--format", "json")

        assert (code, out) == (1, "")
        assert err.splitlines() == [
            "profiles.yaml:4:5: error: profiles[0].resorces: unknown key; did you mean 'resources'?",
            "profiles.yaml:5:28: error: profiles[0].resources.mem_limit: 2GB is not a Kubernetes quantity; "
            "did you mean 2Gi or 2G?",
            "2 errors; a hub keeps using the last good document, if it has one",
        ]

    @pytest.mark.parametrize("command", ["explain", "render"])
    def test_a_comma_in_a_group_is_pointed_out(self, run: Run, write: Write, command: str) -> None:
        path = write('profiles: [{groups: ["Sales, EMEA", a]}]\nsizes: [{name: Large, groups: ["d,e"]}]')
        arguments = [command, path, "--user", "ada", "--image", IMAGE, "--format", "json"]

        code, _, err = run(*arguments, "--group", "a,b")
        assert code == 0
        assert err == (
            "profiled-spawner: --group a,b is one group with a comma in its name; for several, repeat --group\n"
        )
        assert run(*arguments, "--group", "a", "--group", "Sales, EMEA", "--group", "d,e")[2] == ""
        assert run(*arguments, "--group", "cn=ada,ou=people")[2] == ""


class TestCompletion:
    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            pytest.param(["v"], ["validate"], id="command"),
            pytest.param(["validate", "--f"], ["--format"], id="option"),
            pytest.param(["validate", "--format", ""], ["text", "json", "github"], id="choice"),
            pytest.param(["explain", "a.yaml", "--merge-order", "d"], ["document"], id="choice-that-is-begun"),
            pytest.param(["schema", "--s"], [], id="option-of-another-command"),
            pytest.param(["validate", "prof"], [], id="file-which-is-left-to-the-shell"),
        ],
    )
    def test_bash_offers_what_can_follow(self, run: Run, typed: list[str], offered: list[str]) -> None:
        code, script, _ = run("completion")
        words = shlex.join(["profiled-spawner", *typed])
        ask = f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _profiled_spawner; printf '%s\\n' \"${{COMPREPLY[@]}}\""

        shown = subprocess.run(["bash", "-uc", f"{script}\n{ask}"], capture_output=True, text=True, check=True)

        assert code == 0
        assert shown.stderr == ""
        assert shown.stdout.split() == offered


class TestDiff:
    def test_the_exit_code_says_whether_anything_changes(self, run: Run, write: Write) -> None:
        old, new = write(GOOD, "old.yaml"), write(GOOD.replace("BUCKET", "PAIL"), "new.yaml")

        assert run("diff", old, old) == (0, "nothing changes for anybody\n", "")
        code, out, err = run("diff", old, new)
        assert (code, err) == (1, "")
        assert out.splitlines()[0] == "1 user changes, everyone else is unchanged"
        assert run("diff", old, "-", stdin=Path(new).read_bytes())[0] == 1
        assert "CANARY" not in out

    def test_a_document_with_errors_is_not_compared(self, run: Run, write: Write) -> None:
        code, out, err = run("diff", write(GOOD, "old.yaml"), write(BAD, "new.yaml"))
        assert (code, out) == (2, "")
        assert err.startswith("new.yaml:4:5: error: profiles[0].resorces: unknown key")

    def test_a_moment_is_compared_alone(self, run: Run, write: Write) -> None:
        old, new = write("profiles: []", "old.yaml"), write("profiles: [{from: 2090-01-01, env: {A: b}}]", "new.yaml")
        assert run("diff", old, new)[0] == 1
        assert run("diff", old, new, "--at", "2089-12-31")[0] == 0
        assert run("diff", old, new, "--at", "2090-01-01")[0] == 1
        assert run("diff", old, new, "--at", "tomorrow")[0] == 2

    def test_the_merge_order_is_the_hubs(self, run: Run, write: Write) -> None:
        old = write("profiles: [{groups: [g], env: {A: b}}, {env: {A: c}}]", "old.yaml")
        new = write("profiles: [{env: {A: c}}, {groups: [g], env: {A: b}}]", "new.yaml")
        assert run("diff", old, new)[0] == 0
        assert run("diff", old, new, "--merge-order", "document")[0] == 1

    def test_a_revision_of_git_is_what_git_shows(self, run: Run, write: Write) -> None:
        for command in (
            ["git", "init", "--quiet"],
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "a", "--allow-empty"],
        ):
            subprocess.run(command, check=True)
        write(GOOD)
        subprocess.run(["git", "add", "profiles.yaml"], check=True)
        write(GOOD.replace("BUCKET", "PAIL"))
        assert run("diff", "git::profiles.yaml", "profiles.yaml")[0] == 1
        assert run("diff", "git::profiles.yaml", "git::profiles.yaml")[0] == 0
        code, out, err = run("diff", "git:HEAD:profiles.yaml", "profiles.yaml")
        assert (code, out) == (2, "")
        assert err.startswith("profiled-spawner: git:HEAD:profiles.yaml cannot be read: fatal: ")
        assert run("diff", "git:--output=x:profiles.yaml", "profiles.yaml")[0] == 2
        assert not Path("x:profiles.yaml").exists()

    async def test_live_configmaps_are_compared(self, run: Run, write: Write, write_profiles: WriteProfiles) -> None:
        write_profiles(GOOD)
        write_profiles("profiles: [{env: {TEAM: b}}]", name="team", labels={"team": "yes"})
        namespace, name = CONFIGMAP.split("/") if "/" in CONFIGMAP else ("", CONFIGMAP)
        live = f"configmap:{namespace}/{name}" if namespace else f"configmap:{name}"
        assert (await asyncio.to_thread(run, "diff", live, write(GOOD)))[0] == 0
        code, out, _ = await asyncio.to_thread(run, "diff", write(GOOD), live, "--label-selector", "team=yes")
        assert code == 1
        assert out.splitlines() == ["everyone gains", "", "everyone", "  + variable TEAM  from team/profiles[0]"]

    def test_the_summary_of_a_job_is_filled(
        self, run: Run, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        old, new = write("profiles: []", "old.yaml"), write("profiles: [{name: a, env: {A: b}}]", "new.yaml")
        summary = tmp_path / "summary.md"
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        assert run("diff", old, new, "--format", "github") == (1, "", "")
        assert summary.read_text().splitlines()[0] == "**everyone gains**"
        monkeypatch.delenv("GITHUB_STEP_SUMMARY")
        assert run("diff", old, new, "--format", "github")[1].startswith("**everyone gains**\n")
        assert json.loads(run("diff", old, new, "--format", "json")[1])["equal"] is False

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-", "-"], "only one of OLD and NEW can be the standard input"),
            (["a", "b", "--label-selector", "c"], "argument --label-selector: needs configmap:NAME"),
            (["configmap:a/b/c", "b"], "is not NAME or NAMESPACE/NAME"),
            (["git:main", "b"], "is not git:REVISION:PATH"),
            (["a"], "the following arguments are required: NEW"),
        ],
    )
    def test_arguments_that_cannot_be_are_refused(self, run: Run, arguments: list[str], message: str) -> None:
        code, _, err = run("diff", *arguments)
        assert code == 2
        assert message in err


HOLDS = """\
document: profiles.yaml
assertions:
  - subject: {user: ada, image: 'quay.io/example/forecast-notebook:3.6'}
    has: {env: {BUCKET: CANARY-bucket, PORT: 80}, resources: {mem_limit: 2Gi}}
  - subject: {user: grace}
    has_not: {env: [BUCKET]}
"""
FAILS = HOLDS.replace("2Gi", "4Gi").replace("CANARY-bucket", "CANARY-pail")


class TestTest:
    def test_what_holds_gets_one_friendly_line(self, run: Run, write: Write) -> None:
        write(GOOD)
        assert run("test", write(HOLDS, "a.yaml")) == (0, "✔ a.yaml: 2 assertions hold\n", "")

    def test_what_does_not_hold_is_told_with_its_place(self, run: Run, write: Write) -> None:
        write(GOOD)
        assert run("test", write(FAILS, "a.yaml")) == (
            1,
            "a.yaml:3:5: fails: what ada has\n"
            f"  for       ada, on {IMAGE}\n"
            "  expected  variable BUCKET with the value in the test file\n"
            "  found     another value, from forecasting\n"
            "  expected  memory limit of 4Gi\n"
            "  found     2Gi, from forecasting\n"
            "a.yaml: 1 assertion holds, 1 fails\n",
            "",
        )

    def test_a_program_reads_it_as_json(self, run: Run, write: Write) -> None:
        write(GOOD)
        code, out, _ = run("test", write(FAILS, "a.yaml"), "--format", "json")
        found = json.loads(out)
        assert code == 1
        assert {key: found[key] for key in ("source", "passed", "holds", "fails", "errors", "omitted")} == {
            "source": "a.yaml",
            "passed": False,
            "holds": 1,
            "fails": 1,
            "errors": [],
            "omitted": 0,
        }
        first, second = found["assertions"]
        assert (first["line"], first["column"], first["name"], first["holds"]) == (3, 5, "what ada has", False)
        at = first["failures"][1]["example"].pop("at")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at)
        assert first["failures"][1] == {
            "expected": "memory limit of 4Gi",
            "found": "2Gi, from forecasting",
            "profile": "forecasting",
            "example": {"user": "ada", "groups": [], "image": IMAGE, "image_choice": None, "size": "default"},
        }
        assert (second["holds"], second["failures"]) == (True, [])
        objects = json.loads(run("test", "a.yaml", write(HOLDS, "b.yaml"), "--format", "json")[1])
        assert [each["passed"] for each in objects] == [False, True]

    def test_github_annotates_the_test_file(
        self, run: Run, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "sub").mkdir()
        monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
        monkeypatch.chdir("sub")
        write(GOOD)
        code, out, _ = run("test", write(FAILS, "a.yaml"), "--format", "github")
        assert code == 1
        assert out.splitlines() == [
            "::error file=sub/a.yaml,line=3,col=5,title=Assertion fails::what ada has: for ada, on "
            f"{IMAGE}; expected variable BUCKET with the value in the test file; found another value, from "
            "forecasting; expected memory limit of 4Gi; found 2Gi, from forecasting",
            "a.yaml: 1 assertion holds, 1 fails",
        ]
        code, out, _ = run("test", write("document: profiles.yaml", "b.yaml"), "--format", "github")
        assert code == 1
        what = "has no assertions, so nothing is tested; write some under 'assertions'"
        assert out.splitlines() == [f"::error file=sub/b.yaml,title=Assertion fails::{what}", f"b.yaml: {what}"]
        code, out, _ = run("test", write("assertion: []", "c.yaml"), "--format", "github")
        assert code == 2
        assert out.splitlines() == [
            "::error file=sub/c.yaml,line=1,col=1,title=Invalid test file::assertion: unknown key; did you mean "
            "'assertions'?",
            "c.yaml: 1 error; nothing was tested",
        ]

    def test_no_assertion_is_a_failure_for_each_file(self, run: Run, write: Write) -> None:
        write(GOOD)
        empty = write("document: profiles.yaml\nassertions: []", "b.yaml")
        code, out, err = run("test", write(HOLDS, "a.yaml"), empty)
        assert (code, err) == (1, "")
        assert out.splitlines() == [
            "✔ a.yaml: 2 assertions hold",
            "b.yaml: has no assertions, so nothing is tested; write some under 'assertions'",
        ]

    def test_the_errors_of_a_test_file_are_all_told(self, run: Run, write: Write) -> None:
        code, out, err = run("test", write("assertions:\n- {nobody_had: {}}\n- a\n", "a.yaml"))
        assert (code, err) == (2, "")
        assert out.splitlines() == [
            "a.yaml:2:4: error: assertions[0].nobody_had: unknown key; did you mean 'nobody_has'?",
            "a.yaml:3:3: error: assertions[1]: must be a mapping, such as {nobody_has: {resource: gpu}}",
            "a.yaml: 2 errors; nothing was tested",
        ]
        many = "assertions:" + "\n- a" * 101
        assert run("test", write(many, "a.yaml"))[1].splitlines()[-2:] == [
            "…and 1 more errors",
            "a.yaml: 101 errors; nothing was tested",
        ]
        assert run("test", write(b"\xff", "a.yaml")) == (
            2,
            "a.yaml:1:1: error: not UTF-8 text; save it as UTF-8\na.yaml: 1 error; nothing was tested\n",
            "",
        )

    def test_the_document_is_found_beside_the_test_file(self, run: Run, write: Write) -> None:
        Path("sub").mkdir()
        write(GOOD, "sub/profiles.yaml")
        assert run("test", write(HOLDS, "sub/a.yaml"))[0] == 0
        assert run("test", "-", stdin=HOLDS.encode()) == (
            2,
            "",
            "profiled-spawner: profiles.yaml cannot be read: No such file or directory\n",
        )
        assert run("test", "-", stdin=HOLDS.replace("profiles.yaml", "sub/profiles.yaml").encode())[0] == 0

    def test_several_documents_are_combined_as_those_of_selected_configmaps(self, run: Run, write: Write) -> None:
        write(GOOD)
        write("profiles: [{name: a, users: [grace], env: {BUCKET: CANARY}}]", "team.yaml")
        text = HOLDS.replace("document: profiles.yaml", "document: [profiles.yaml, team.yaml]")
        code, out, _ = run("test", write(text, "a.yaml"))
        assert code == 1
        assert "  found     variable BUCKET, from team/a\n" in out
        write(BAD, "team.yaml")
        code, out, err = run("test", "a.yaml")
        assert (code, out) == (2, "")
        assert err.startswith("team.yaml:4:5: error: ")

    def test_another_document_can_be_tested(self, run: Run, write: Write) -> None:
        write(GOOD, "other.yaml")
        test = write(HOLDS, "a.yaml")
        assert run("test", test, "--document", "other.yaml")[0] == 0
        assert run("test", test, "--document", "-", stdin=GOOD.encode())[0] == 0
        code, out, err = run("test", test, "--document", write(BAD, "bad.yaml"))
        assert (code, out) == (2, "")
        assert err.startswith("bad.yaml:4:5: error: profiles[0].resorces: unknown key")
        nameless = write(HOLDS.replace("document: profiles.yaml\n", ""), "b.yaml")
        assert run("test", nameless, "--document", "other.yaml")[0] == 0
        assert run("test", nameless) == (
            2,
            "",
            "profiled-spawner: b.yaml has no 'document'; write it there, or add --document\n",
        )

    async def test_a_live_configmap_can_be_tested(self, run: Run, write: Write, write_profiles: WriteProfiles) -> None:
        write_profiles(GOOD)
        write_profiles("profiles: [{users: [grace], env: {BUCKET: b}}]", name="team", labels={"team": "yes"})
        test, live = write(HOLDS, "a.yaml"), f"configmap:{CONFIGMAP}"
        assert (await asyncio.to_thread(run, "test", test, "--document", live))[0] == 0
        code, out, _ = await asyncio.to_thread(run, "test", test, "--document", live, "--label-selector", "team=yes")
        assert code == 1
        assert "found     variable BUCKET, from team/profiles[0]" in out

    def test_the_others_are_tested_if_a_file_cannot_be_read(self, run: Run, write: Write) -> None:
        write(GOOD)
        code, out, err = run("test", "none.yaml", write(HOLDS, "a.yaml"), "--format", "json")
        assert code == 2
        assert [each["source"] for each in json.loads(out)] == ["a.yaml"]
        assert run("test", "none.yaml", write(FAILS, "b.yaml"))[0] == 2
        assert err == "profiled-spawner: none.yaml cannot be read: No such file or directory\n"
        assert run("test", "none.yaml", "--format", "json")[:2] == (2, "")

    def test_the_merge_order_is_the_hubs(self, run: Run, write: Write) -> None:
        write("profiles: [{groups: [g], env: {A: b}}, {env: {A: c}}]")
        text = "document: profiles.yaml\nassertions: [{subject: {user: a, groups: [g]}, has: {env: {A: b}}}]"
        assert run("test", write(text, "a.yaml"))[0] == 0
        assert run("test", "a.yaml", "--merge-order", "document")[0] == 1
        write("profiles: [{groups: [g], env: {A: null}}, {env: {A: b}}]")
        write("document: profiles.yaml\nassertions: [{everyone_has: {env: A}}]", "a.yaml")
        assert run("test", "a.yaml")[0] == 1
        assert run("test", "a.yaml", "--merge-order", "document")[0] == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-", "-"], "only one of FILE and --document can be the standard input"),
            (["-", "--document", "-"], "only one of FILE and --document can be the standard input"),
            (["a", "--label-selector", "c"], "argument --label-selector: needs configmap:NAME"),
            (["a", "--document", "configmap:a/b/c"], "is not NAME or NAMESPACE/NAME"),
            ([], "the following arguments are required: FILE"),
        ],
    )
    def test_arguments_that_cannot_be_are_refused(self, run: Run, arguments: list[str], message: str) -> None:
        code, _, err = run("test", *arguments)
        assert code == 2
        assert message in err


class TestRender:
    def test_yaml_is_a_manifest(self, run: Run, write: Write) -> None:
        code, out, _ = run("render", write(GOOD), "--user", "ada", "--image", IMAGE, "--server", "gpu")

        assert code == 0
        assert out.startswith("apiVersion: v1\nkind: Pod\nmetadata:\n")
        pod = yaml.safe_load(out)
        assert pod["metadata"]["name"] == "jupyter-ada--gpu"
        assert pod["metadata"]["annotations"]["profiled-spawner/applied"] == '["globals", "forecasting"]'
        assert pod["metadata"]["annotations"]["profiled-spawner/source"].startswith("file/profiles.yaml@sha256:")
        assert {"name": "BUCKET", "value": "***"} in pod["spec"]["containers"][0]["env"]

    def test_json_is_the_same(self, run: Run, write: Write) -> None:
        arguments = ["render", write(GOOD), "--user", "ada", "--image", IMAGE, "--show-values"]

        assert json.loads(run(*arguments, "--format", "json")[1]) == yaml.safe_load(run(*arguments)[1])
        assert "CANARY-bucket" in run(*arguments)[1]

    def test_a_configuration_that_does_not_work_is_told(self, run: Run, write: Write) -> None:
        write("import nothing_like_it", "jupyterhub_config.py")
        arguments = ["--user", "ada", "--image", IMAGE, "--config", "jupyterhub_config.py"]

        assert run("render", write(GOOD), *arguments) == (
            2,
            "",
            "profiled-spawner: jupyterhub_config.py:1: ModuleNotFoundError: No module named 'nothing_like_it'\n",
        )

    def test_what_does_not_go_with_the_configuration_is_no_good(self, run: Run, write: Write) -> None:
        write("c.KubeSpawner.volume_mounts = [{'name': 'home', 'mountPath': '/home/ada'}]", "jupyterhub_config.py")
        path = write("profiles: [{name: team, volumes: [{name: a, mountPath: '/home/{username}/', emptyDir: {}}]}]")
        arguments = ["--user", "ada", "--image", IMAGE, "--config", "jupyterhub_config.py"]

        assert run("render", path, *arguments) == (
            1,
            "",
            "profiled-spawner: team mounts a volume at /home/ada, and so does the pod already; mount it elsewhere\n",
        )

    def test_a_process_of_its_own_says_nothing_else(self, write: Write) -> None:
        # asyncio, aiohttp and Python itself complain of what is left open when a process ends.
        environment = os.environ | {"PYTHONWARNINGS": "error::ResourceWarning", "KUBECONFIG": "/nowhere"}

        result = process("render", write(GOOD), "--user", "ada", "--image", IMAGE, env=environment)

        assert (result.returncode, result.stderr) == (0, "")
        assert yaml.safe_load(result.stdout)["kind"] == "Pod"


def test_schema_prints_the_schema_of_test_files(run: Run) -> None:
    code, out, _ = run("schema", "--test")
    assert (code, json.loads(out)) == (0, make_test_schema())


def test_schema_prints_the_schema(run: Run) -> None:
    code, out, err = run("schema")

    assert (code, json.loads(out), err) == (0, make_schema(), "")


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version") == (0, f"profiled-spawner {__version__}\n", "")


SIZES = f"""\
{GOOD}
sizes:
  - name: Large
    users: [ada]
    env: {{BUCKET: CANARY-large}}
    resources: {{mem_limit: 8Gi}}
  - {{name: Small}}
"""


class TestSize:
    def test_explain_tells_what_comes_of_it(self, run: Run, write: Write) -> None:
        arguments = ["explain", write(SIZES), "--user", "ada", "--image", IMAGE, "--size", "Large"]
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert "Profiles: 2 of 2 match" in out
        assert "later overrides earlier: globals, forecasting, size Large" in out
        assert "BUCKET    ***  from size Large" in out
        explained = json.loads(run(*arguments, "--format", "json")[1])
        assert (explained["applied"], explained["size"]) == ([0, 1], "Large")
        assert explained["resources"]["limits"]["memory"] == {"quantity": "8Gi", "profile": None, "overrides": [0, 1]}
        assert explained["resources"]["limits"]["cpu"] == {"quantity": "1", "profile": 1, "overrides": [0]}

    def test_explain_tells_of_a_size_alone(self, run: Run, write: Write) -> None:
        document = write("profiles: []\nsizes: [{name: Large, resources: {mem_limit: 8Gi}}]")
        _, out, _ = run("explain", document, "--user", "ada", "--image", IMAGE, "--size", "Large")
        assert "later overrides earlier: size Large" in out

    def test_render_shows_the_pod_with_it(self, run: Run, write: Write) -> None:
        code, out, err = run("render", write(SIZES), "--user", "ada", "--image", IMAGE, "--size", "Large")
        assert (code, err) == (0, "")
        pod = yaml.safe_load(out)
        assert pod["spec"]["containers"][0]["resources"]["limits"] == {"memory": "8Gi", "cpu": "1"}
        applied = pod["metadata"]["annotations"]["profiled-spawner/applied"]
        assert json.loads(applied) == ["globals", "forecasting", "size Large"]

    @pytest.mark.parametrize("command", ["explain", "render"])
    def test_one_that_is_not_to_be_had_is_no_good(self, run: Run, write: Write, command: str) -> None:
        code, out, err = run(command, write(SIZES), "--user", "grace", "--image", IMAGE, "--size", "Large")
        assert (code, out) == (1, "")
        assert err == "profiled-spawner: there is no size 'Large' for grace; choose one of: default, Small\n"

    def test_default_is_none(self, run: Run, write: Write) -> None:
        arguments = ["explain", write(SIZES), "--user", "ada", "--image", IMAGE]
        assert run(*arguments, "--size", "default") == run(*arguments)


IMAGES = """
timezone: Europe/Athens
profiles: [{name: week, images: [course], from: 2027-01-18, until: 2027-01-22, env: {A: b}}]
images:
- {name: Course, image: course, groups: [students], until: 2027-01-31}
- {name: Basic, image: basic}
- {name: Hub, users: [ada]}
sizes: [{name: Large}]
"""


class TestImages:
    def test_explain_lists_what_may_be_chosen(self, run: Run, write: Write) -> None:
        arguments = ["explain", write(IMAGES), "--user", "ada", "--group", "students", "--at", "2027-01-20"]
        arguments += ["--image-choice", "Course"]
        code, out, err = run(*arguments)

        assert (code, err) == (0, "")
        assert out.splitlines()[2:6] == [
            "Image   course (Course)",
            "",
            "May choose images  Course, Basic, Hub",
            "May choose sizes   default, Large",
        ]
        assert "  ✔ 0  week  for every user; image is listed; until the end of 22 January" in out
        (told,) = json.loads(run(*arguments, "--format", "json")[1])
        assert (told["image_choice"], told["images"], told["sizes"]) == (
            "Course",
            ["Course", "Basic", "Hub"],
            ["Large"],
        )

    @pytest.mark.parametrize(
        ("arguments", "image"),
        [
            pytest.param(["--at", "2027-01-31T23:59:59"], "course", id="on its last day"),
            pytest.param(["--at", "2027-02-01"], "basic", id="after it"),
            pytest.param(["--image", "other"], "course", id="over an image of the hub's settings"),
            pytest.param(["--image-choice", "Basic"], "basic", id="chosen"),
            pytest.param(["--image-choice", "Hub", "--image", "other"], "other", id="left to the hub's settings"),
        ],
    )
    @pytest.mark.parametrize("command", ["explain", "render"])
    def test_the_image_is_the_one_that_a_server_would_run(
        self, run: Run, write: Write, command: str, arguments: list[str], image: str
    ) -> None:
        given = [command, write(IMAGES), "--user", "ada", "--group", "students", "--at", "2027-01-20", *arguments]
        code, out, err = run(*given, "--format", "json")

        assert (code, err) == (0, "")
        told = json.loads(out)
        first = told[0] if isinstance(told, list) else told
        assert (first["subject"] if command == "explain" else first["spec"]["containers"][0])["image"] == image

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (
                ["explain", "--image-choice", "Course"],
                1,
                "there is no image 'Course' for ada; choose one of: Basic, Hub",
            ),
            (["render", "--image-choice", "Hub"], 1, "nothing here says which image the server runs; add --image"),
            (["explain", "--at", "2027-02-30"], 2, "--at: 2027-02-30 is not in the calendar"),
        ],
    )
    def test_what_cannot_be_is_an_error(
        self, run: Run, write: Write, arguments: list[str], code: int, message: str
    ) -> None:
        command, *others = arguments
        assert run(command, write(IMAGES), "--user", "ada", *others) == (
            code,
            "",
            f"profiled-spawner: {message}\n",
        )

    def test_each_image_is_explained_unless_one_is_given(self, run: Run, write: Write) -> None:
        arguments = ["explain", write(IMAGES), "--user", "ada", "--at", "2027-01-20", "--format", "json"]
        told = json.loads(run(*arguments)[1])
        assert [(each["subject"]["image"], each["image_choice"]) for each in told] == [
            ("basic", "Basic"),
            ("course", "Hub"),
            ("x", "Hub"),
        ]
        assert [each["subject"].get("image_matches") for each in told] == [None, ["course"], []]

    def test_several_users_are_explained_together(self, run: Run, write: Write) -> None:
        arguments = ["explain", write(IMAGES), "--user", "ada", "--user", "grace", "--image", "x", "--format", "json"]
        told = json.loads(run(*arguments, "--group", "students", "--at", "2027-01-20")[1])
        assert [(each["subject"]["user"], each["image_choice"]) for each in told] == [
            ("ada", "Course"),
            ("grace", "Course"),
        ]

    def test_a_choice_that_one_of_them_does_not_have_is_told_and_the_others_are_explained(
        self, run: Run, write: Write
    ) -> None:
        arguments = ["explain", write(IMAGES), "--user", "grace", "--user", "ada", "--image-choice", "Hub"]
        code, out, err = run(*arguments)
        assert (code, err) == (1, "profiled-spawner: there is no image 'Hub' for grace; choose one of: Basic\n")
        assert out.startswith("User    ada\n")

    def test_a_roster_says_who_there_is_and_in_which_groups(self, run: Run, write: Write, tmp_path: Path) -> None:
        roster = tmp_path / "users.json"
        roster.write_text('[{"name": "ada", "groups": ["students"]}, {"name": "grace", "groups": []}]')
        arguments = ["explain", write(IMAGES), "--at", "2027-01-20", "--image", "x", "--roster", str(roster)]
        code, out, err = run(*arguments, "--complete", "--format", "json")
        assert (code, err) == (0, "")
        assert [(each["subject"]["groups"], each["image_choice"]) for each in json.loads(out)] == [
            (["students"], "Course"),
            ([], "Basic"),
        ]
        assert len(json.loads(run(*arguments, "--complete", "--user", "grace", "--format", "json")[1])) == 1
        code, _, err = run(*arguments, "--complete", "--user", "linus")
        assert (code, err) == (2, f"profiled-spawner: {roster} has no user linus\n")
        code, _, err = run(*arguments)
        assert code == 2
        assert "add --complete" in err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "one of the arguments --user --roster --hub is required"),
            (["--roster", "r", "--group", "a"], "argument --group: not allowed with a roster"),
            (["--user", "a", "--complete"], "argument --complete: needs --roster"),
        ],
    )
    def test_arguments_that_do_not_go_together_are_refused(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["explain", "profiles.yaml", *arguments])
        assert message in capsys.readouterr().err

    def test_images_without_number_are_told_of(self, run: Run, write: Write) -> None:
        entries = ", ".join(f'"*a{number}*"' for number in range(30))
        code, _, err = run(
            "explain", write(f"profiles: [{{images: [{entries}]}}]"), "--user", "ada", "--format", "json"
        )
        assert code == 0
        assert err == (
            "profiled-spawner: the profiles of ada tell apart more images than can be listed; see the others with "
            "--image\n"
        )

    def test_validate_warns_of_what_has_ended(self, run: Run, write: Write) -> None:
        code, out, _ = run("validate", write("profiles: [{until: 2020-01-31}]"))

        assert code == 0
        assert "profiles[0].until: is over: it applied until the end of 31 January 2020; remove it" in out


HOSTILE = [
    pytest.param("profiles: [{env: {A: CANARY, B: &v CANARY}, users: *v}]", id="alias in place of a list"),
    pytest.param("profiles: [{env: {A: &v CANARY}, resources: {mem_limit: *v}}]", id="alias as a quantity"),
    pytest.param("profiles: [{env: CANARY}]", id="text in place of a mapping"),
    pytest.param("profiles: [{env: [CANARY]}]", id="text in place of a variable"),
    pytest.param("profiles: [{env: {'A=CANARY': 1, 'B CANARY': 2}}]", id="values as names"),
    pytest.param("profiles: [{env: {A: [CANARY]}}]", id="list as a value"),
    pytest.param("profiles: [{env: [{name: A, value: {CANARY: CANARY}}]}]", id="mapping as a value"),
    pytest.param("profiles: [{env: {A: {valueFrom: CANARY}}}]", id="text in place of a reference"),
    pytest.param("profiles: [{env: {A: 'CANARY}}]", id="quote left open"),
    pytest.param("profiles:\n- env:\n    A: CANARY: CANARY", id="colon in a value"),
    pytest.param("profiles:\n- env:\n    A: !CANARY CANARY", id="tag"),
    pytest.param("profiles:\n- env:\n    A: *CANARY", id="alias without an anchor"),
    pytest.param('profiles:\n- env:\n    A: "CANARY\\q"', id="unknown escape"),
    pytest.param('profiles: [{env: {A: "CANARY\\0"}}]', id="NUL"),
    pytest.param(f"profiles: [{{env: {{A: {'CANARY' * 30_000}}}}}]", id="too long"),
    pytest.param(b"profiles: [{env: {A: CANARY\xff}}]", id="not UTF-8"),
    pytest.param("profiles: [{env: {A: CANARY\x07}}]", id="control character"),
    pytest.param("profiles: [{env: {API_TOKEN: CANARY, B: CANARY}}]", id="valid"),
    pytest.param("profiles: [{env: {A: CANARY, B: null}, users: ['*']}, {images: [], env: {A: CANARY}}]", id="merged"),
]


@pytest.mark.parametrize("document", HOSTILE)
def test_no_value_of_a_variable_is_ever_shown_unasked(run: Run, write: Write, document: str | bytes) -> None:
    path = write(document)
    subject = ["--user", "ada", "--image", IMAGE]
    test = write(
        "assertions: [{subject: {user: ada}, has: {env: {A: CANARY, B: CANARY}}, has_not: {env: [API_TOKEN]}}]",
        "t.yaml",
    )

    for arguments in (
        *[["validate", path, "--format", form] for form in ("text", "json", "github")],
        *[["explain", path, *subject, "--format", form] for form in ("text", "json")],
        *[["render", path, *subject, "--format", form] for form in ("yaml", "json")],
        *[["test", test, "--document", path, "--format", form] for form in ("text", "json", "github")],
    ):
        code, out, err = run(*arguments)
        assert code in (0, 1) or arguments[0] == "test"
        assert "CANARY" not in out + err


# A command to the terminal, line ends, C1, bidirectional marks, a byte-order mark: none may be printed as it is.
STEERING = "\x1b[2J\r\n\x07\x7f\x85\x9b\u2028\u2029\u202e\u2066\u200b\ufeff"

EVERY_TEXT = """
profiles:
  - name: P
    users: [ada, grace]
    groups: [G]
    images: ['quay.io/*', other]
    env: {A: value, B: {valueFrom: {secretKeyRef: {name: s, key: k}}}}
    env_from: [{secretRef: {name: s}, prefix: A}]
    resources: {limits: {memory: 1Gi, nvidia.com/gpu: 2}, requests: {memory: 2Gi, nvidia.com/gpu: 1}}
    node_selector: {disk: ssd}
    node_tolerations: [{key: k, value: v, operator: Equal, effect: NoSchedule}]
    node_affinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]
      preferredDuringSchedulingIgnoredDuringExecution:
        - {weight: 1, preference: {matchFields: [{key: metadata.name, operator: In, values: [n]}]}}
    volumes:
      - {name: claim, mountPath: /claim, subPath: sub, persistentVolumeClaim: {claimName: c}}
      - {name: host, mountPath: /host, hostPath: {path: /var}}
      - {name: csi, mountPath: /csi, csi: {driver: d, volumeAttributes: {a: b}}}
      - {name: all, mountPath: /all, projected: {sources: [{secret: {name: s, items: [{key: k, path: p}]}}]}}
    labels: {team: blue}
    annotations: {note: text}
  - {users: [GRACE], groups: [H], images: [another], env: {D: value}}
sizes:
  - {name: Large, description: text, resources: {mem_limit: 8Gi}, volumes: [{name: s, mountPath: /s, emptyDir: {}}]}
  - {name: Other, users: [grace]}
"""


def with_every_text(value: Any, change: Callable[[str], str]) -> Any:
    """The same with all texts changed that are no keys."""
    if isinstance(value, dict):
        return {key: with_every_text(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [with_every_text(each, change) for each in value]
    return change(str(value))


def with_each_text(value: Any, change: Callable[[str], str], *, keys: bool = False) -> Iterator[Any]:
    """The same with one of its texts changed, each in turn: of its values, or of its keys."""
    if isinstance(value, dict):
        for name, each in value.items():
            if keys:
                yield {change(key) if key == name else key: of for key, of in value.items()}
            yield from (value | {name: changed} for changed in with_each_text(each, change, keys=keys))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            for changed in with_each_text(each, change, keys=keys):
                yield [*value[:index], changed, *value[index + 1 :]]
    elif not keys:
        yield change(str(value))


def is_valid(document: Any) -> bool:
    return validate_document(json.dumps(document)).document is not None


class TestNothingSteersTheTerminal:
    @pytest.fixture
    def shows(self, run: Run, write: Write, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
        """Whatever a command prints, which is held to what a terminal can be given."""

        def shows(command: str, document: Any, *arguments: str, lines: int | None = None) -> str:
            monkeypatch.setenv("FORCE_COLOR", "1")
            coloured = "".join(run(command, write(json.dumps(document)), *arguments)[1:])
            plain = re.sub("\x1b\\[(?:0|1|2|31|32|33)m", "", coloured)
            assert plain.replace("\n", "").isprintable()
            assert lines in (None, plain.count("\n"))
            return plain

        return shows

    def subject(self, mark: str) -> list[str]:
        image = f"quay.io/nb{mark}"
        return ["--user", f"ada{mark}", "--group", f"G{mark}", "--group", f"I{mark}", "--image", image]

    @pytest.mark.parametrize("mark", ["\n", STEERING], ids=["line-end", "everything"])
    def test_where_every_text_of_a_valid_document_would(self, shows: Callable[..., str], mark: str) -> None:
        hostile = harmless = yaml.safe_load(EVERY_TEXT)
        assert is_valid(harmless)
        for keys in (False, True):
            for number in range(len(list(with_each_text(harmless, str, keys=keys)))):
                changed = list(with_each_text(hostile, lambda text: text + mark, keys=keys))[number]
                hostile = changed if is_valid(changed) else hostile
        written = json.dumps(hostile)
        for text in ("P", "ada", "G", "quay.io/*", "value", "text", "GRACE", "Large"):
            assert json.dumps(text + mark) in written
        (size, *_) = (each["name"] for each in hostile["sizes"])
        for arguments in ([], ["--size", size], ["--size", size, "--show-values"], ["--size", f"none{mark}"]):
            lines = shows("explain", harmless, *self.subject(""), *(each.removesuffix(mark) for each in arguments))
            shows("explain", hostile, *self.subject(mark), *arguments, lines=lines.count("\n"))
        for form in ("text", "github"):
            shows("validate", hostile, "--format", form, lines=len(validate_document(written).warnings) + 1)

    def test_where_a_text_makes_the_document_invalid(self, shows: Callable[..., str]) -> None:
        harmless = yaml.safe_load(EVERY_TEXT)
        every = with_every_text(harmless, lambda text: text + STEERING)
        for document in (every, *with_each_text(harmless, lambda text: text + STEERING, keys=True)):
            checked = validate_document(json.dumps(document))
            assert document is not every or len(checked.errors) > 20
            if checked.errors:
                shows("explain", document, *self.subject(""), lines=len(checked.errors) + 1)
            for form in ("text", "github"):
                lines = len(checked.errors) + len(checked.warnings) + 1
                shows("validate", document, "--format", form, lines=lines)

    @pytest.mark.parametrize("form", ["text", "github"])
    def test_where_an_assertion_fails(self, run: Run, write: Write, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
        document = {
            "profiles": [{"name": STEERING, "users": [STEERING], "groups": [STEERING], "env": {"A": "b"}}],
            "sizes": [{"name": STEERING, "users": [STEERING]}],
        }
        subject = {"user": STEERING, "groups": [STEERING], "image": "x"}
        misspelled = {"user": STEERING, "groups": [f"{STEERING}a"], "size": f"{STEERING}a"}
        things = [{"profile": STEERING}, {"size": STEERING}]
        assertions = [
            {"name": STEERING, "subject": subject, "has": {"env": {"A": "c"}}, "has_not": {"profiles": [STEERING]}},
            {"subject": subject, "has": {"profiles": [f"{STEERING}a"]}, "has_not": {"sizes": [STEERING]}},
            {"subject": misspelled, "has": {"gpu": 1}},
            *({"nobody_has": thing} for thing in things),
            *({"everyone_has": thing} for thing in things),
            *({"only": {"users": [f"{STEERING}a"]}, "may_have": thing} for thing in things),
        ]
        path = write(json.dumps({"assertions": assertions}), f"{STEERING}.yaml")
        monkeypatch.setenv("FORCE_COLOR", "1")
        code, out, err = run("test", path, "--document", write(json.dumps(document)), "--format", form)
        plain = re.sub("\x1b\\[(?:0|1|2|31|32|33)m", "", out)
        assert (code, err) == (1, "")
        assert plain.replace("\n", "").isprintable()
        assert plain.endswith(": 9 assertions fail\n")

    def test_where_the_source_is_called_so(self, run: Run, write: Write) -> None:
        path = write(BAD, f"profiles{STEERING}.yaml")
        manifest = write(f"apiVersion: v1\nkind: ConfigMap\ndata: {{{json.dumps(STEERING)}: a}}", f"{STEERING}.yaml")
        for arguments in (
            *[["validate", each, "--format", form] for each in (path, manifest) for form in ("text", "github")],
            ["explain", path, *self.subject("")],
            ["validate", f"{STEERING}/none"],
            ["validate", path, STEERING],
            ["validate", path, f"--{STEERING}"],
            ["validate", path, "--format", STEERING],
            ["validate", "--configmap", f"a/b/c{STEERING}"],
        ):
            code, out, err = run(*arguments)
            assert code != 0
            assert (out + err).replace("\n", "").isprintable()

    def test_where_it_cannot_be_put_into_the_pod(self, run: Run, write: Write) -> None:
        volume = {"name": "home", "mountPath": "/a", "emptyDir": {}}
        write("c.KubeSpawner.volumes = [{'name': 'home', 'emptyDir': {}}]\n", "jupyterhub_config.py")
        path = write(json.dumps({"profiles": [{"name": STEERING, "volumes": [volume]}]}))

        code, out, err = run("render", path, *self.subject(STEERING), "--config", "jupyterhub_config.py")

        assert (code, out) == (1, "")
        assert "has a volume 'home', and so has the pod already" in err
        assert err.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "profiles.yaml"],
        ["validate", "profiles.yaml", "--format", "github"],
        ["explain", "profiles.yaml", "--user", "ada", "--image", "x"],
        ["test", "test.yaml"],
        ["schema"],
        ["completion"],
    ],
)
def test_commands_that_start_fast_import_neither_hub_nor_kubernetes(write: Write, arguments: list[str]) -> None:
    write(GOOD)
    write(HOLDS, "test.yaml")
    code = (
        "import sys; from profiled_spawner.command.main import main; "
        f"assert main({arguments!r}) == 0; "
        "heavy = {'jupyterhub', 'kubespawner', 'kubernetes_asyncio', 'aiohttp', 'tornado', 'traitlets', 'asyncio'}; "
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )

    assert (result.returncode, result.stderr) == (0, "")


class TestOutput:
    def test_there_are_colours_on_a_terminal(self, write: Write) -> None:
        assert "\x1b[31merror:\x1b[0m" in self.on_a_terminal("validate", write(BAD))

    @pytest.mark.parametrize("wish", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
    def test_there_are_none_for_who_wants_none(self, write: Write, wish: dict[str, str]) -> None:
        output = self.on_a_terminal("validate", write(BAD), **wish)

        assert ": error: " in output
        assert "\x1b" not in output

    def test_there_are_some_in_a_file_for_who_wants_them(
        self, run: Run, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")

        assert "\x1b[31merror:\x1b[0m" in run("validate", write(BAD))[1]

    def test_an_output_that_has_ascii_alone_gets_ascii(self, write: Write) -> None:
        path = write("profiles: [{name: Prévision, env: {A: ✔}}, {users: [grace]}]")
        arguments = ["explain", path, "--user", "ada", "--image", IMAGE, "--show-values"]
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}

        text, as_json = process(*arguments, env=environment), process(*arguments, "--format", "json", env=environment)

        assert (text.returncode, text.stderr) == (0, "")
        assert "  + 0  Pr\\xe9vision" in text.stdout
        assert "  - 1  profiles[1]" in text.stdout
        assert json.loads(as_json.stdout)["profiles"][0]["name"] == "Prévision"

    def test_a_reader_that_has_seen_enough_is_no_error(self, write: Write) -> None:
        # More than fits into a pipe, so that the command is still writing when the pipe is closed.
        path = write("profiles:\n" + "".join(f"  - {{name: profile-{number}}}\n" for number in range(5000)))

        with subprocess.Popen(
            command("explain", path, "--user", "ada", "--image", IMAGE),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as popen:
            assert popen.stdout
            assert popen.stderr
            assert popen.stdout.readline() == "User    ada\n"
            popen.stdout.close()
            assert popen.stderr.read() == ""
        assert popen.returncode == 141

    def test_an_output_that_is_full_is_told(self) -> None:
        with Path("/dev/full").open("w") as full:
            result = subprocess.run(command("schema"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)

        assert (result.returncode, result.stderr) == (
            2,
            "profiled-spawner: cannot write the output: No space left on device\n",
        )

    def test_an_output_that_was_closed_leaves_the_exit_code(self, write: Write) -> None:
        good, bad = (
            subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command("validate", write(text))], check=False)
            for text in (GOOD, BAD)
        )

        assert [good.returncode, bad.returncode] == [0, 1]

    def test_an_input_that_was_closed_is_told(self) -> None:
        result = subprocess.run(
            ["sh", "-c", '"$@" <&-', "sh", *command("validate", "-")], capture_output=True, text=True, check=False
        )

        assert (result.returncode, result.stderr) == (2, "profiled-spawner: the standard input is closed\n")

    def test_ctrl_c_ends_it_quietly(self, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        arguments = command("validate", str(fifo))
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as popen:
            # Opening it waits until the command reads it, which then waits for what never comes.
            writer = fifo.open("w")
            popen.send_signal(signal.SIGINT)
            out, err = popen.communicate(timeout=HANG_SECONDS)
            writer.close()

        assert (popen.returncode, out, err) == (130, "", "")

    @staticmethod
    def on_a_terminal(*arguments: str, **environment: str) -> str:
        ours, theirs = pty.openpty()
        try:
            settings = os.environ | {"TERM": "xterm"} | environment
            subprocess.run(
                command(*arguments), stdout=theirs, stderr=theirs, env=settings, timeout=HANG_SECONDS, check=False
            )
            os.set_blocking(ours, False)
            return os.read(ours, 65536).decode()
        finally:
            os.close(ours)
            os.close(theirs)


def test_validate_warns_of_what_has_no_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(
        "profiles:\n  - env: {A: x, B: y}\n  - &p {groups: [g], env: {A: z}}\n  - *p\n  - {env: {A: secret-value}}\n"
    )
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}:2:14: warning: profiles[0].env.A: never has an effect: whoever it is for, other profiles override it",
        f"{path}:3:5: warning: profiles[1]: says the same as profiles[2], which overrides it; remove one of them",
        "4 profiles, no errors, 2 warnings",
    ]
    assert main(["validate", "--strict", "--merge-order", "document", str(path)]) == 1


TEAMS = """\
profiles: []
sizes: [{name: Small}]
teams:
  - name: forecasting
    configmaps: [aviation]
    groups: [forecasters]
    may: [env, resources, sizes]
    hard: {limits.memory: 8Gi}
"""
WITHIN = "profiles: [{name: a, resources: {mem_limit: 8Gi}}]"
BEYOND = "profiles:\n  - name: a\n    resources: {mem_limit: 9Gi}\n"
TOO_MUCH = (
    ":3:28: error: profiles[0].resources.mem_limit: 9Gi is more than the team forecasting may give a server, which is "
    "8Gi (limits.memory)"
)


class TestTeams:
    @pytest.fixture
    def check(self, run: Run, write: Write) -> Callable[..., tuple[int, str, str]]:
        """Checks a team's document against a main one."""

        def check(text: str, *arguments: str, main: str = TEAMS, team: str = "forecasting") -> tuple[int, str, str]:
            paths = write(text, "team.yaml"), write(main, "main.yaml")
            return run("validate", paths[0], "--main", paths[1], "--team", team, *arguments)

        return check

    def test_a_document_is_checked_for_its_team(self, check: Callable[..., tuple[int, str, str]]) -> None:
        assert check(WITHIN) == (0, "✔ team.yaml: 1 profile, no errors\n", "")
        code, out, err = check(BEYOND)
        assert (code, err) == (1, "")
        assert out.splitlines()[0] == f"team.yaml{TOO_MUCH}"
        code, out, _ = check(BEYOND, "--format", "json")
        assert (code, json.loads(out)["errors"][0]["path"]) == (1, "profiles[0].resources.mem_limit")
        assert check(BEYOND, "--format", "github")[1].startswith("::error file=team.yaml,line=3,col=28,")

    def test_it_is_a_selected_one(self, check: Callable[..., tuple[int, str, str]]) -> None:
        code, out, _ = check("profiles: []\nquotas: []\n")
        assert code == 1
        assert "team.yaml:2:1: error: quotas: only the main ConfigMap can have this" in out

    def test_a_name_that_the_main_document_has_is_told(self, check: Callable[..., tuple[int, str, str]]) -> None:
        assert check("profiles: []\nsizes: [{name: Large}, {name: Small}]")[:2] == (
            0,
            "team.yaml:2:31: warning: sizes[1].name: is never offered: the main document has a size of this name; "
            "rename it\nno profiles, no errors, 1 warning\n",
        )

    @pytest.mark.parametrize(
        ("main", "team", "told"),
        [
            (TEAMS, "other", "the main document has no team 'other'; its teams are: forecasting"),
            ("profiles: []", "other", "the main document has no team 'other'; its teams are: none"),
            ("profiles: [{nmae: x}]", "forecasting", "main.yaml:1:13: error: profiles[0].nmae"),
        ],
    )
    def test_a_main_document_that_cannot_say_is_told(
        self, check: Callable[..., tuple[int, str, str]], main: str, team: str, told: str
    ) -> None:
        code, out, err = check(WITHIN, main=main, team=team)
        assert (code, out) == (2, "")
        assert err.removeprefix("profiled-spawner: ").startswith(told)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("x.yaml", "--team", "t"),
            ("x.yaml", "--main", "y.yaml"),
            ("--configmap", "c", "--main", "y.yaml"),
            ("--configmap", "c", "--label-selector", "a=b", "--main", "y.yaml", "--team", "t"),
            ("-", "--main", "-", "--team", "t"),
        ],
    )
    def test_arguments_that_do_not_go_together(self, run: Run, arguments: tuple[str, ...]) -> None:
        code, out, err = run("validate", *arguments)
        assert (code, out) == (2, "")
        assert "error: argument --" in err or "standard input" in err

    def test_assertions_are_about_documents_within_their_bounds(self, run: Run, write: Write) -> None:
        write(TEAMS, "main.yaml")
        tests = "document: [main.yaml, aviation.yaml]\nassertions: [{nobody_has: {resource: gpu}}]"
        write(tests, "a.test.yaml")
        write(WITHIN, "aviation.yaml")
        assert "mem_limit" not in run("test", "a.test.yaml")[2]
        write(BEYOND, "aviation.yaml")
        assert f"aviation.yaml{TOO_MUCH}" in run("test", "a.test.yaml")[2]


@pytest.mark.usefixtures("api")
class TestTeamsOnACluster:
    @pytest.fixture
    def run_on(self, run: Run, write_profiles: WriteProfiles) -> Callable[..., Any]:
        async def run_on(command: str, *arguments: str, main: str = TEAMS) -> tuple[int, str, str]:
            write_profiles(main)
            write_profiles(WITHIN, name="aviation", labels={"team": "yes"})
            write_profiles("profiles: [{name: b}]", name="zoology", labels={"team": "yes"})
            options = ("--configmap", CONFIGMAP, "--label-selector", "team=yes", *arguments)
            return await asyncio.to_thread(run, command, *options)

        return run_on

    async def test_each_is_checked_under_its_team(self, run_on: Callable[..., Any]) -> None:
        code, out, err = await run_on("validate")
        assert (code, err) == (1, "")
        assert out.splitlines() == [
            f"✔ configmap/jhub/{CONFIGMAP}: no profiles, no errors",
            "✔ configmap/jhub/aviation: 1 profile, no errors",
            "configmap/jhub/zoology: error: no team of the main ConfigMap has it; name it under 'configmaps' of its "
            "team, or remove its label",
            SUMMARY.replace("2 errors, 1 warning", "1 error"),
        ]
        code, out, err = await run_on("validate", main=TEAMS.replace("8Gi", "7Gi"))
        assert "configmap/jhub/aviation:1:45: error: profiles[0].resources.mem_limit: 8Gi is more than the team" in out

    async def test_new_bounds_can_be_tried(self, run_on: Callable[..., Any], write: Write) -> None:
        path = write(TEAMS.replace("8Gi", "7Gi").replace("aviation", "aviation, zoology"), "new.yaml")
        code, out, err = await run_on("validate", "--main", path)
        assert (code, err) == (1, "")
        lines = out.splitlines()
        assert lines[0] == "✔ new.yaml: no profiles, no errors"
        assert lines[1].startswith("configmap/jhub/aviation:1:45: error: profiles[0].resources.mem_limit: 8Gi is more")
        assert lines[3:] == ["✔ configmap/jhub/zoology: 1 profile, no errors"]
        assert (await run_on("validate", "--main", write("profiles: [{nmae: x}]", "new.yaml")))[0] == 1

    async def test_a_person_gets_it_as_a_member_of_the_team(self, run_on: Callable[..., Any]) -> None:
        for groups, applied in (((), []), (("--group", "forecasters"), ["a"])):
            code, out, err = await run_on("explain", "--user", "ada", *groups, "--image", "x", "--format", "json")
            told = json.loads(out)
            assert [told["profiles"][position]["name"] for position in told["applied"]] == applied
            assert "configmap/jhub/zoology: error: no team" in err
            assert code == 1
