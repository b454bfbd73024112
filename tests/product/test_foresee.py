"""What `diff` says of its example is so: for `explain`, for `render`, and for a server that really starts."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from profiled_spawner.command.main import main
from sandbox.api import EmbeddedAPI
from sandbox.paperkubelet import PaperKubelet

from ..conftest import NAMESPACE, MakeSpawner, WriteProfiles

PAIRS = {
    "two groups at once": (
        "profiles: [{groups: [g], env: {A: b}}, {groups: [h], env: {A: c}}]",
        "profiles: [{groups: [h], env: {A: c}}, {groups: [g], env: {A: b}}]",
    ),
    "a user in a group": (
        "profiles: [{groups: [g], env: {A: b}}, {users: [ada], env: {A: c}}]",
        "profiles: [{users: [ada], env: {A: c}}, {groups: [g], env: {A: b}}]",
    ),
    "overlapping patterns": (
        "profiles: [{images: ['lab/*'], env: {A: b}}, {images: ['*:1'], env: {A: c}}]",
        "profiles: [{images: ['*:1'], env: {A: c}}, {images: ['lab/*'], env: {A: b}}]",
    ),
    "latest": (
        "profiles: [{images: ['lab/a:latest'], env: {A: b}}]",
        "profiles: [{images: ['lab/a*'], env: {A: b}}]",
    ),
    "specificity": (
        "profiles: [{groups: [g], env: {A: b}}, {env: {A: c}}]",
        "profiles: [{groups: [g, h], env: {A: b}}, {env: {A: c}}]",
    ),
    "null": (
        "profiles: [{env: {A: b}}, {groups: [g], env: {A: c}}]",
        "profiles: [{env: {A: b}}, {groups: [g], env: {A: null}}]",
    ),
    "merge keys": (
        "profiles: [{env: &all {A: b, B: c}}, {groups: [g], env: {<<: *all, B: d}}]",
        "profiles: [{env: &all {A: b, B: c}}, {groups: [g], env: {<<: *all, B: e}}]",
    ),
    "a profile that never wins": (
        "profiles: [{groups: [g], env: {A: b}}, {groups: [g], env: {A: c}}]",
        "profiles: [{groups: [g], env: {A: c}}, {groups: [g], env: {A: b}}]",
    ),
    "times": (
        "profiles: [{env: {A: b}}, {until: 2030-01-01, env: {A: c}}]",
        "profiles: [{env: {A: b}}, {until: 2029-01-01, env: {A: c}}]",
    ),
    "a size": (
        "profiles: []\nsizes: [{name: L, groups: [g], resources: {mem_limit: 2Gi}}]",
        "profiles: []\nsizes: [{name: L, groups: [g], resources: {mem_limit: 3Gi}}]",
    ),
    "an image": (
        "profiles: [{images: ['lab/a'], env: {A: b}}]\nimages: [{name: I, image: lab/a, groups: [h]}]",
        "profiles: [{images: ['lab/a'], env: {A: c}}]\nimages: [{name: I, image: lab/a, groups: [h]}]",
    ),
    "what is chosen": (
        "profiles: [{images: ['lab/a'], env: {A: b}}]\nimages: [{name: I, image: lab/a}]",
        "profiles: [{images: ['lab/a'], env: {A: b}}]\nimages: [{name: I, image: lab/b}]",
    ),
    "volumes": (
        "profiles: [{volumes: [{name: v, mountPath: /v, emptyDir: {}}]}]",
        "profiles: [{volumes: [{name: v, mountPath: /v, emptyDir: {}}]}, "
        "{groups: [g], volumes: [{name: w, mountPath: /v, emptyDir: {medium: Memory}}]}]",
    ),
    "nodes": (
        "profiles: [{groups: [g], node_selector: {pool: a}, node_tolerations: [{key: k, operator: Exists}]}]",
        "profiles: [{groups: [g], node_selector: {pool: b}, node_tolerations: [{key: l, operator: Exists}]}]",
    ),
    "sources": (
        "profiles: [{env_from: [{secretRef: {name: s}}, {secretRef: {name: t}}]}]",
        "profiles: [{env_from: [{secretRef: {name: t}}, {secretRef: {name: s}}]}]",
    ),
}


@pytest.mark.parametrize("case", PAIRS)
async def test_explain_render_and_a_start_differ_for_the_example(
    case: str,
    api: EmbeddedAPI,
    kubelet: PaperKubelet,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("s", "t"):
        api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}})
    files = [tmp_path / "old.yaml", tmp_path / "new.yaml"]
    for file, text in zip(files, PAIRS[case], strict=True):
        file.write_text(text)
    assert main(["diff", *map(str, files), "--format", "json"]) == 1
    examples = [each["example"] for each in json.loads(capsys.readouterr().out)["changes"]]
    # What is so only later, no server that starts now can show.
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5))
    for example in examples:
        options = ["--user", example["user"], "--size", example["size"], "--at", example["at"]]
        options += [word for group in example["groups"] for word in ("--group", group)]
        if example["image_choice"]:
            options += ["--image-choice", example["image_choice"]]
        else:
            options += ["--image", example["image"]]
        explained, rendered = [], []
        for file in files:
            assert main(["explain", str(file), *options, "--format", "json", "--show-values"]) == 0
            told = json.loads(capsys.readouterr().out)
            # Without an image, there is a list: of the one that the choice leads to.
            (told,) = told if isinstance(told, list) else [told]
            explained.append({key: value for key, value in told.items() if key != "profiles"})
        assert explained[0] != explained[1], example
        for file in files:
            assert await run_render(file, options, capsys, rendered) == 0
        assert view(rendered[0]) != view(rendered[1]), example
        if example["at"] <= now:
            started = []
            for text in PAIRS[case]:
                write_profiles(text)
                spawner = make_spawner(example["user"], tuple(example["groups"]), image=example["image"])
                spawner.user_options = {"profiled": {"image": example["image_choice"], "size": example["size"]}}
                if example["image_choice"] is None:
                    del spawner.user_options["profiled"]["image"]
                await spawner.start()
                started.append(api.get("pods", spawner.namespace, spawner.pod_name))
                await spawner.stop(now=True)
            assert [view(each) for each in started] == [view(each) for each in rendered], example


async def run_render(
    file: Path, options: list[str], capsys: pytest.CaptureFixture[str], rendered: list[dict[str, Any]]
) -> int:
    """Renders in a thread, since the command has an event loop of its own."""
    code = await asyncio.to_thread(main, ["render", str(file), *options, "--format", "json", "--show-values"])
    rendered.append(json.loads(capsys.readouterr().out))
    return code


def view(pod: dict[str, Any]) -> dict[str, Any]:
    """What a document has a say in."""
    spec = pod["spec"]
    container = spec["containers"][0]
    seen = {
        "image": container["image"],
        "env": [each for each in container.get("env", ()) if each["name"] in ("A", "B", "MEM_LIMIT")],
        "env_from": container.get("envFrom"),
        # A Kubernetes API server adds the guarantees.
        "limits": container.get("resources", {}).get("limits"),
        "volumes": [each for each in spec.get("volumes") or () if each["name"] in ("v", "w")],
        "mounts": [each for each in container.get("volumeMounts") or () if each["name"] in ("v", "w")],
        "tolerations": spec.get("tolerations"),
        "node_selector": spec.get("nodeSelector"),
        "affinity": spec.get("affinity"),
    }
    return {key: value for key, value in seen.items() if value}
