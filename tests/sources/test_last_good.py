"""The last good document survives a restart of the hub: what is kept in the file, and when it is used."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubernetes_asyncio.config import load_kube_config

from profiled_spawner.document.model import Document
from profiled_spawner.errors import DocumentError, ProfiledSpawnerError, SourceError
from profiled_spawner.sources import cache, last_good, several
from profiled_spawner.sources.cache import EscapingLog, Snapshot
from profiled_spawner.sources.configmap import ConfigMapSource, SelectedConfigMapsSource
from profiled_spawner.sources.extract import Text
from profiled_spawner.sources.last_good import LastGoodFile, Saved, get_last_good_file
from profiled_spawner.sources.several import read_documents
from sandbox.api import EmbeddedAPI, Fault
from sandbox.assembly import Sandbox
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import HANG_SECONDS, PATIENCE, SHORT_SECONDS, Clock, until

from ..conftest import CONFIGMAP, KEY, NAMESPACE, MakeSpawner, WriteProfiles

log = logging.getLogger("hub")

SELECTOR = "jupyterhub=singleuser-profiles"
LABELS = {"jupyterhub": "singleuser-profiles"}
SOURCE = f"configmap/{NAMESPACE}/{CONFIGMAP}#{KEY}"
SELECTED = f"configmaps/{NAMESPACE}?labelSelector={SELECTOR}#{KEY} without {CONFIGMAP}"
BROKEN = "profiles: [{nmae: broken, env: {FOO: canary-value}}]"


def profiles(*names: str) -> str:
    return f"profiles: [{', '.join(f'{{name: {name}, env: {{FOO: canary-value}}}}' for name in names)}]"


class Hub:
    """What a hub's process does with the documents and the file."""

    def __init__(self, client: CoreV1Api, path: Path) -> None:
        self.path = path
        self.main = ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, client, timeout_seconds=SHORT_SECONDS)
        self.selected: SelectedConfigMapsSource | None = None
        self.teams = SelectedConfigMapsSource(NAMESPACE, SELECTOR, KEY, CONFIGMAP, client, SHORT_SECONDS)

    async def read(self, policy: Any = "last-good", timeout_seconds: float = HANG_SECONDS) -> Snapshot:
        """What a start does; returns when the file is written too."""
        try:
            return await read_documents(
                self.main,
                self.selected,
                policy=policy,
                timeout_seconds=timeout_seconds,
                log=EscapingLog(log),
                file=get_last_good_file(str(self.path)),
            )
        finally:
            await written()

    async def labels(self, **kwargs: Any) -> list[str]:
        return [profile.label for profile in (await self.read(**kwargs)).document.profiles]

    @staticmethod
    def restart() -> None:
        """Forgets whatever the process knows."""
        cache.all_stores.clear()
        several.all_selections.clear()
        last_good.all_files.clear()


async def written() -> None:
    await until(lambda: not any(file.is_writing for file in last_good.all_files.values()))


@pytest.fixture
async def hub(api: EmbeddedAPI, tmp_path: Path) -> AsyncIterator[Hub]:
    configuration = Configuration()
    await load_kube_config(client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield Hub(CoreV1Api(client), tmp_path / "last-good.json")
    Hub.restart()


@pytest.fixture
def file(tmp_path: Path) -> LastGoodFile:
    return LastGoodFile(tmp_path / "last-good.json")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname}: {record.getMessage()}" for record in caplog.records if record.name == log.name]


def saved(text: str = "profiles: []", age_seconds: float = 0, **more: Any) -> Saved:
    return Saved(f"configmap/{NAMESPACE}/{CONFIGMAP}@7", Text(text), time.time() - age_seconds, **more)


def put(path: Path, content: dict[str, tuple[Saved, ...]]) -> None:
    LastGoodFile(path).write(content)


# What a hub finds when it has restarted


def invalid(api: EmbeddedAPI, write: WriteProfiles) -> None:
    write(BROKEN)


def no_key(api: EmbeddedAPI, write: WriteProfiles) -> None:
    write(profiles("other"), key="other")


def missing(api: EmbeddedAPI, write: WriteProfiles) -> None:
    api.delete("configmaps", NAMESPACE, CONFIGMAP)


def forbidden(api: EmbeddedAPI, write: WriteProfiles) -> None:
    api.deny("get", "configmaps")


def away(api: EmbeddedAPI, write: WriteProfiles) -> None:
    api.faults.append(Fault("hang", resource="configmaps", times=None))


@pytest.mark.parametrize("fault", [invalid, no_key, missing, forbidden, away], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("policy", ["last-good", "fail", "ignore"])
async def test_a_hub_that_restarts_has_the_last_good_document(
    api: EmbeddedAPI,
    hub: Hub,
    write_profiles: WriteProfiles,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    policy: str,
    fault: Callable[[EmbeddedAPI, WriteProfiles], None],
) -> None:
    version = write_profiles(profiles("good"))["metadata"]["resourceVersion"]
    await hub.read()
    hub.restart()
    fault(api, write_profiles)
    asked = len(api.requests)
    reading = asyncio.create_task(hub.read(policy, timeout_seconds=SHORT_SECONDS if fault is away else HANG_SECONDS))
    if fault is away:
        await until(lambda: len(api.requests) > asked)
        clock.forward(SHORT_SECONDS)

    if policy == "fail":
        with pytest.raises(ProfiledSpawnerError):
            await reading
    elif policy == "ignore":
        assert (await reading).document == Document()
    else:
        given = await reading
        assert [profile.name for profile in given.document.profiles] == ["good"]
        assert given.source == f"configmap/{NAMESPACE}/{CONFIGMAP}@{version}"
        assert given.fault is not None
        (line,) = lines(caplog)
        told = rf"Using the last good profiles, {given.source}, read \d+ s ago, before this hub started, because "
        assert re.match(f"WARNING: {told}", line)
    assert "canary" not in caplog.text

    api.faults.clear()
    if fault is forbidden:
        api.allow("get", "configmaps")
    write_profiles(profiles("recovered"))
    assert await hub.labels(policy=policy) == ["recovered"]


@pytest.mark.parametrize(
    ("age_seconds", "told"),
    [
        (-500, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (2 * 86400 - 60, "47 h"),
        (2 * 86400, "2 days"),
        (400 * 86400, "400 days"),
    ],
)
async def test_the_warning_says_how_old_it_is(
    hub: Hub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture, age_seconds: float, told: str
) -> None:
    put(hub.path, {SOURCE: (saved(profiles("old"), age_seconds),)})
    write_profiles(BROKEN)
    assert await hub.labels() == ["old"]
    # A second may pass meanwhile.
    assert f", read {told} ago, before this hub started, because " in caplog.text or told == "119 s"


async def test_what_was_withdrawn_does_not_come_back(hub: Hub, write_profiles: WriteProfiles) -> None:
    write_profiles(profiles("old"))
    await hub.read()
    write_profiles("profiles: []")
    await hub.read()
    write_profiles(BROKEN)
    await hub.read()
    hub.restart()
    assert await hub.labels() == []


async def test_one_restart_after_the_other(hub: Hub, write_profiles: WriteProfiles) -> None:
    write_profiles(profiles("good"))
    await hub.read()
    write_profiles(BROKEN)
    for _ in range(3):
        hub.restart()
        assert await hub.labels() == ["good"]


async def test_a_document_that_is_not_valid_any_more_is_told_and_not_used(
    hub: Hub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    put(hub.path, {SOURCE: (saved(BROKEN),)})
    write_profiles("profiles: [{nmae: also}]")
    for _ in range(2):
        with pytest.raises(DocumentError):
            await hub.read()
    first, *others = lines(caplog)
    assert first.startswith("WARNING: Not using the last good profiles of an earlier hub, because configmap/jhub/")
    assert "profiles[0].nmae: unknown key" in first
    assert [line for line in others if "earlier hub" in line] == []
    assert "canary" not in caplog.text


# The selected ConfigMaps


@pytest.fixture
def teams(hub: Hub, api: EmbeddedAPI, write_profiles: WriteProfiles) -> Callable[..., None]:
    hub.selected = hub.teams
    write_profiles(profiles("main"))

    def write(**texts: str) -> None:
        for name, text in texts.items():
            write_profiles(text, name=name, labels=LABELS)

    return write


async def test_selected_configmaps_are_as_they_were_when_they_cannot_be_listed(
    api: EmbeddedAPI, hub: Hub, teams: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    teams(one=profiles("a"), two=profiles("b"), three=profiles("c"))
    await hub.read()
    teams(one=BROKEN)
    api.delete("configmaps", NAMESPACE, "three")
    await hub.read()
    hub.restart()
    caplog.clear()
    api.deny("list", "configmaps")
    assert await hub.labels() == ["main", "one/a", "two/b"]
    (line,) = lines(caplog)
    assert re.match(r"WARNING: Using the selected ConfigMaps as they were \d+ s ago, before this hub started, ", line)
    # Now that it can, one is given as it was; the file has lost nothing by that.
    api.allow("list", "configmaps")
    for _ in range(2):
        assert await hub.labels() == ["main", "one/a", "two/b"]
        hub.restart()
    assert "canary" not in caplog.text


@pytest.mark.parametrize("policy", ["fail", "ignore"])
async def test_selected_configmaps_of_an_earlier_hub_are_for_last_good_alone(
    api: EmbeddedAPI, hub: Hub, teams: Callable[..., None], policy: str
) -> None:
    teams(one=profiles("a"))
    await hub.read(policy)
    hub.restart()
    api.deny("list", "configmaps")
    assert await hub.labels(policy=policy) == ["main"]


async def test_one_that_is_broken_counts_as_an_earlier_hub_knew_it(
    hub: Hub, teams: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    teams(one=profiles("a"), two=profiles("b"))
    await hub.read()
    hub.restart()
    teams(one=BROKEN, two=profiles("new"))
    assert await hub.labels() == ["main", "one/a", "two/new"]
    (line,) = lines(caplog)
    told = r"Using the last good version, configmap/jhub/one@\d+, read \d+ s ago, before this hub started, because "
    assert re.match(f"WARNING: {told}", line)


async def test_one_that_was_deleted_does_not_come_back_with_another_of_its_name(
    api: EmbeddedAPI, hub: Hub, teams: Callable[..., None]
) -> None:
    teams(one=profiles("a"))
    await hub.read()
    hub.restart()
    api.delete("configmaps", NAMESPACE, "one")
    teams(one=BROKEN)
    assert await hub.labels() == ["main"]


async def test_all_that_were_deleted_are_gone_from_the_file(
    api: EmbeddedAPI, hub: Hub, teams: Callable[..., None]
) -> None:
    teams(one=profiles("a"))
    await hub.read()
    api.delete("configmaps", NAMESPACE, "one")
    await hub.read()
    hub.restart()
    api.deny("list", "configmaps")
    assert await hub.labels() == ["main"]


async def test_sources_do_not_overwrite_each_other(
    api: EmbeddedAPI, hub: Hub, teams: Callable[..., None], write_profiles: WriteProfiles
) -> None:
    teams(one=profiles("a"))
    write_profiles(profiles("other"), name="other")
    await hub.read()
    hub.restart()
    # Another hub in the same directory, whose main document is another; it has never seen the others.
    main, hub.main, hub.selected = hub.main, ConfigMapSource(NAMESPACE, "other", KEY, hub.main.api, SHORT_SECONDS), None
    assert await hub.labels() == ["other"]
    for each in (CONFIGMAP, "other"):
        write_profiles(BROKEN, name=each)
    api.deny("list", "configmaps")
    hub.restart()
    assert await hub.labels() == ["other"]
    hub.main, hub.selected = main, hub.teams
    assert await hub.labels() == ["main", "one/a"]


# A file that is not used


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def nest(path: Path) -> None:
    path.write_text("[" * 100_000)


def newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))


def link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def large(path: Path) -> None:
    os.truncate(path, 64 * 2**20 + 1)


def foreign(path: Path) -> None:
    put(path.with_name("new"), {"configmap/jhub/another#key": (saved(profiles("foreign")),)})
    path.with_name("new").replace(path)


def public(mode: int) -> Callable[[Path], None]:
    return lambda path: path.chmod(mode)


UNUSABLE = [
    pytest.param(damage, "it is damaged", id="cut"),
    pytest.param(empty, "it is damaged", id="empty"),
    pytest.param(garbage, "it is damaged", id="garbage"),
    pytest.param(nest, "it is damaged", id="nested"),
    pytest.param(newer, "another version of this package wrote it", id="newer"),
    pytest.param(link, "it is a symbolic link", id="symlink"),
    pytest.param(fifo, "it is a FIFO, not a regular file", id="fifo"),
    pytest.param(directory, "it is a directory, not a regular file", id="directory"),
    pytest.param(large, "it is larger than 64 MiB", id="large"),
    pytest.param(foreign, f"has no last good profiles of {SOURCE}, only of configmap/jhub/another#key", id="foreign"),
    *(
        pytest.param(public(mode), f"others may use it (mode 0{mode:o}), and it holds secrets", id=f"mode-{mode:o}")
        for mode in (0o604, 0o602, 0o601, 0o666, 0o777)
    ),
]


@pytest.mark.parametrize(("spoil", "why"), UNUSABLE)
async def test_a_file_that_must_not_be_used_is_told_and_not_used(
    hub: Hub,
    write_profiles: WriteProfiles,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    why: str,
) -> None:
    caplog.set_level(logging.INFO, log.name)
    write_profiles(profiles("good"))
    await hub.read()
    hub.restart()
    write_profiles(BROKEN)
    spoil(hub.path)
    for _ in range(2):
        with pytest.raises(DocumentError):
            await hub.read()
    # The reason is told once.
    told, first, second = lines(caplog)
    assert why in told
    assert str(hub.path) in told
    assert [line.partition(", because")[0] for line in (first, second)] == ["ERROR: Starting no server"] * 2
    assert "canary" not in caplog.text
    # It is replaced by the next good one, but for a directory, which is left alone.
    write_profiles(profiles("next"))
    assert await hub.labels() == ["next"]
    assert hub.path.is_dir() or SOURCE in LastGoodFile(hub.path).load()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o660, 0o2660])
async def test_a_file_that_its_group_may_use_is_used(hub: Hub, write_profiles: WriteProfiles, mode: int) -> None:
    # A pod's fsGroup makes each file of a volume the group's at every mount.
    write_profiles(profiles("good"))
    await hub.read()
    hub.restart()
    write_profiles(BROKEN)
    hub.path.chmod(mode)
    assert await hub.labels() == ["good"]


async def test_a_file_that_is_mended_is_used_without_a_restart(hub: Hub, write_profiles: WriteProfiles) -> None:
    put(hub.path, {SOURCE: (saved(profiles("good")),)})
    write_profiles(BROKEN)
    hub.path.chmod(0o644)
    with pytest.raises(DocumentError):
        await hub.read()
    hub.path.chmod(0o600)
    assert await hub.labels() == ["good"]


CONTENT = {
    SOURCE: (Saved("configmap/jhub/x@1", Text("profiles: [{env: {A: ü}}]", 3, 2), 1.5),),
    SELECTED: (
        Saved("configmap/jhub/a@2", Text("profiles: []\n"), 2.0, "a", "uid-1"),
        Saved("configmap/jhub/b@3", Text("sizes: []\u2028\ud800"), 3.0, "b", "uid-2"),
    ),
}


def test_the_file_holds_everything(file: LastGoodFile) -> None:
    file.write(CONTENT)
    loaded = file.load()
    assert loaded == CONTENT
    assert [each.read_at for documents in loaded.values() for each in documents] == [1.5, 2.0, 3.0]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.path.read_bytes().splitlines()[0])["format"] == 1


def whole_or_nothing(raw: bytes) -> None:
    with contextlib.suppress(SourceError):
        assert last_good.parse_content(raw) == CONTENT


@pytest.mark.parametrize("change", [0x01, 0x20, 0x80, 0xFF])
def test_a_byte_that_is_damaged_is_noticed(change: int) -> None:
    raw = last_good.format_content(CONTENT)
    for position in range(len(raw)):
        whole_or_nothing(raw[:position] + bytes([raw[position] ^ change]) + raw[position + 1 :])
        whole_or_nothing(raw[:position])
        whole_or_nothing(raw[:position] + raw[position + 1 :])


@given(st.data())
def test_any_damage_is_noticed(data: st.DataObject) -> None:
    raw = last_good.format_content(CONTENT)
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, len(raw)))
    whole_or_nothing(raw[:start] + data.draw(st.binary(max_size=64)) + raw[end:])


@given(st.binary())
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(SourceError):
        last_good.parse_content(raw)


# Writing

WRITER = """
import logging, os, signal, sys
from pathlib import Path
from profiled_spawner.sources.last_good import LastGoodFile, Saved
from profiled_spawner.sources.extract import Text
path, old_or_new = Path(sys.argv[1]), sys.argv[2]
file = LastGoodFile(path)
logging.basicConfig(format="%(levelname)s: %(message)s")
log = logging.getLogger()
def content(text):
    return {"source": (Saved("configmap/jhub/x@" + text, Text(text * 5000), 1.0),)}
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a process that writes the file, and may be killed by that."""
    return subprocess.run(
        [sys.executable, "-c", WRITER + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


KILLED = """
at, half = int(sys.argv[3]), sys.argv[4] == "half"
steps = 0
def killing(name, function):
    def call(*args, **kwargs):
        global steps
        if steps == at:
            if half and name == "write":
                function(args[0], args[1][: len(args[1]) // 2])
            elif half:
                function(*args, **kwargs)
            print(name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        # In pieces, so that there are several.
        return function(args[0], args[1][:10000]) if name == "write" else function(*args, **kwargs)
    return call
for name in ("open", "write", "fsync", "close", "replace", "unlink", "listdir", "read", "fstat"):
    setattr(os, name, killing(name, getattr(os, name)))
file.write(content(old_or_new))
"""


@pytest.mark.parametrize("when", ["before", "half"], ids=["before-the-step", "after-the-step-or-amid-it"])
def test_a_kill_at_any_step_of_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path, when: str) -> None:
    path = tmp_path / "last-good.json"
    assert run("file.write(content('old'))", path, "old").returncode == 0
    old = path.read_bytes()
    steps = []
    for step in range(1000):
        done = run(KILLED, path, "new", step, when)
        for each in tmp_path.iterdir():
            assert each.stat().st_mode & 0o777 == 0o600
        ((text, *_), *others) = [saved[0].text.text for saved in LastGoodFile(path).load().values()]
        assert others == []
        assert text in ("o", "n")
        assert text == "n" or path.read_bytes() == old
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        steps.append(done.stdout.strip())
        # The next one is to meet the old file again, and nothing else.
        for each in tmp_path.iterdir():
            each.unlink()
        path.touch(0o600)
        path.write_bytes(old)
    assert {"open", "write", "fsync", "close", "replace", "listdir"} <= set(steps)
    assert steps.count("write") > 1
    assert steps.count("fsync") == 2

    # What one left behind that was killed, the next one removes.
    run(KILLED, path, "new", steps.index("replace"), "before")
    assert len(list(tmp_path.iterdir())) == 2
    run("file.write(content('newer'))", path, "")
    assert list(tmp_path.iterdir()) == [path]


FULL = """
import resource
run = lambda text: (file.save("source", content(text)["source"], log), wait())
def wait():
    import time
    while file.is_writing:
        time.sleep(0.01)
run("small")
print(path.exists())
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
run("more")
print(path.exists())
run("more")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run("more")
print(path.exists(), len(os.listdir(path.parent)), file.load()["source"][0].text.text[:4])
"""


def test_a_file_that_cannot_be_written_whole_is_removed_and_tried_again(tmp_path: Path) -> None:
    done = run(FULL, tmp_path / "last-good.json", "")
    assert done.stdout.split() == ["True", "False", "True", "1", "more"]
    # Though two have failed.
    (line,) = done.stderr.splitlines()
    assert re.match(r"WARNING: Could not write .*, because File too large, so the older one was removed; ", line)


READ_ONLY = """
os.chmod(path.parent, 0o777)
os.seteuid(65534) if os.geteuid() == 0 else None
file.write(content("old"))
os.seteuid(os.getuid())
os.chmod(path.parent, 0o555)
os.seteuid(65534) if os.geteuid() == 0 else None
file._content.clear()
file._pending = content("new")
file._write_pending(log)
print(path.exists())
"""


def test_an_old_file_that_can_be_neither_replaced_nor_removed_is_an_error(tmp_path: Path) -> None:
    # Whoever is not root must get there.
    if os.geteuid() == 0:
        for parent in (tmp_path, *tmp_path.parents[:2]):
            parent.chmod(0o755)
    directory = tmp_path / "read-only"
    directory.mkdir()
    done = run(READ_ONLY, directory / "last-good.json", "")
    assert done.stdout.split() == ["True"], done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("ERROR: Could not write ")
    assert "because Permission denied; nor could the older one be removed: Permission denied; remove it before" in line


async def test_starts_go_on_where_the_file_cannot_be_written(
    hub: Hub, write_profiles: WriteProfiles, caplog: pytest.LogCaptureFixture
) -> None:
    hub.path = hub.path.parent / "missing" / "last-good.json"
    for name in ("a", "a", "b"):
        write_profiles(profiles(name))
        assert await hub.labels() == [name]
    (line,) = lines(caplog)
    assert f"Could not write {hub.path}, because No such file or directory, and there is no older one; " in line
    hub.path.parent.mkdir()
    await hub.read()
    assert LastGoodFile(hub.path).load().keys() == {SOURCE}


SHARED = """
import time
file.load = (lambda load: lambda: (load(), time.sleep(0.01))[0])(file.load)
for number in range(30):
    file.write({old_or_new: (Saved(f"x@{number}", Text(old_or_new), 1.0),)})
"""


def test_hubs_that_share_a_file_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "last-good.json"
    threads = [threading.Thread(target=run, args=(SHARED, path, name)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = LastGoodFile(path).load()
    assert {name: saved[0].revision for name, saved in found.items()} == dict.fromkeys(("one", "two", "three"), "x@29")


async def test_an_unchanged_start_touches_no_file(
    hub: Hub, teams: Callable[..., None], write_profiles: WriteProfiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    teams(one=profiles("a"), two=BROKEN)
    await hub.read()
    calls: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(os, name)

    def run_in_daemon(work: Any) -> Any:
        calls.append("run_in_daemon")
        return run(work)

    run = last_good.run_in_daemon
    monkeypatch.setattr(last_good, "os", Counting())
    monkeypatch.setattr(last_good, "run_in_daemon", run_in_daemon)
    for _ in range(3):
        await hub.read()
    # Nor does one that finds an edit broken.
    write_profiles(BROKEN)
    await hub.read()
    assert calls == []
    write_profiles(profiles("edited"))
    await hub.read()
    assert calls.count("run_in_daemon") == calls.count("replace") == 1


async def test_a_file_system_that_hangs_holds_up_no_start(
    hub: Hub,
    write_profiles: WriteProfiles,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(hub.path, {SOURCE: (saved(profiles("good")),)})
    hanging: list[str] = []
    go_on = threading.Event()
    load = LastGoodFile.load

    def hang(self: LastGoodFile) -> Any:
        hanging.append(threading.current_thread().name)
        assert go_on.wait(HANG_SECONDS)
        return load(self)

    monkeypatch.setattr(LastGoodFile, "load", hang)
    write_profiles(BROKEN)
    for _ in range(2):
        reading = asyncio.create_task(hub.read())
        await until(lambda: hanging)
        while not reading.done():
            clock.forward(1)
            await asyncio.sleep(0.01)
        with pytest.raises(DocumentError):
            await reading
    assert (
        f"Not using the last good profiles in {hub.path}, because reading it takes longer than a start" in caplog.text
    )
    # There is no second thread that waits for it, and the process can end meanwhile.
    assert [thread.daemon for thread in threading.enumerate() if thread.name in hanging] == [True]
    assert len(hanging) == 1
    go_on.set()
    assert await hub.labels() == ["good"]

    # The same for writing.
    go_on.clear()
    for name in ("a", "b", "c"):
        write_profiles(profiles(name))
        assert await read_documents_alone(hub) == [name]
    go_on.set()
    await written()
    assert LastGoodFile(hub.path).load()[SOURCE][0].text.text == profiles("c")


async def read_documents_alone(hub: Hub) -> list[str]:
    """What a start does, without waiting for the file."""
    snapshot = await read_documents(
        hub.main,
        None,
        policy="last-good",
        timeout_seconds=HANG_SECONDS,
        log=log,
        file=get_last_good_file(str(hub.path)),
    )
    return [profile.label for profile in snapshot.document.profiles]


async def test_without_a_thread_the_start_goes_on(
    hub: Hub, write_profiles: WriteProfiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_in_daemon(work: object) -> Future[None]:
        future = Future[None]()
        future.set_exception(SourceError("the hub could start no thread", outcome="unavailable"))
        return future

    write_profiles(profiles("good"))
    await hub.read()
    write_profiles(profiles("next"))
    monkeypatch.setattr(last_good, "run_in_daemon", run_in_daemon)
    assert await hub.labels() == ["next"]
    monkeypatch.undo()
    await hub.read()
    assert LastGoodFile(hub.path).load()[SOURCE][0].text.text == profiles("next")


# The spawner, and a hub


@pytest.mark.parametrize("path", ["last-good.json", ""], ids=["kept", "switched-off"])
async def test_the_spawner_keeps_the_document_where_last_good_path_says(
    kubelet: PaperKubelet, make_spawner: MakeSpawner, write_profiles: WriteProfiles, tmp_path: Path, path: str
) -> None:
    write_profiles(profiles("good"))
    await make_spawner("ada", last_good_path=str(tmp_path / path) if path else "").start()
    await written()
    assert (tmp_path / "last-good.json").exists() == bool(path)
    Hub.restart()
    write_profiles(BROKEN)
    starting = make_spawner("grace", last_good_path=str(tmp_path / path) if path else "").start()
    if path:
        await starting
    else:
        with pytest.raises(Exception, match="please ask the administrators"):
            await starting


def test_a_value_is_in_no_repr() -> None:
    assert "canary" not in repr(saved("canary-value"))


# On the oldest hosts, the fault table and tests above restart a hub in this process, and test_end_to_end.py has one as
# a process.
@pytest.mark.newest
@pytest.mark.processes
async def test_a_hub_that_was_killed_starts_servers_from_the_last_good_document() -> None:
    image = "quay.io/example/notebook:1"
    async with Sandbox(profiles("good"), traits={"KubeSpawner": PATIENCE}) as sandbox:
        await sandbox.client.create_user("ada")
        await sandbox.client.start_server("ada", image)
        file = sandbox.directory / "hub" / "jupyterhub_last_good_profiles.json"
        await until(file.exists)
        sandbox.write_document(BROKEN)
        await sandbox.hub.restart(grace_seconds=0)
        await sandbox.client.create_user("grace")
        await sandbox.client.start_server("grace", image)
        assert (await sandbox.look_into("grace")).environment["FOO"] == "canary-value"
        *_, warning = sandbox.hub.profile_warnings()
        assert re.match(r"Using the last good profiles, .*@\d+, read .* ago, before this hub started, because", warning)
        assert "canary" not in sandbox.hub.log_file.read_text()
