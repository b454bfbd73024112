"""What our parser accepts, a real API server accepts: documents, quantities, names of variables and of resources.

Each test prints how much it has asked. `CORPUS_DOCUMENTS` and `CORPUS_VALUES` ask for more than the short form.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from cluster.corpus import Report, Server, corpus, make_pods
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.model import Document
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.quantity import format_cores, parse_quantity
from profiled_spawner.document.rules import explain_env_name
from profiled_spawner.errors import DocumentError
from profiled_spawner.sources.extract import decode_text, find_document
from sandbox.status import Object, StatusError

pytestmark = pytest.mark.cluster

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
KEY = "jupyterhub-singleuser-profiles.yaml"
DOCUMENTS = int(os.environ.get("CORPUS_DOCUMENTS", "500"))
VALUES = int(os.environ.get("CORPUS_VALUES", "1000"))


def subjects_of(document: Document) -> Iterable[Subject]:
    """One subject for every kind of user, group and image that a document speaks of, and a stranger."""
    users = {user for profile in document.profiles for user in profile.users or ()} - {"*"}
    groups = {group for profile in document.profiles for group in profile.groups or ()}
    images = {image.replace("*", "x") for profile in document.profiles for image in profile.images or ()}
    images = {image for image in images if image.strip() == image and image}
    for user, image in itertools.product(sorted(users)[:3] or ["ada"], sorted(images)[:3] or ["an-image"]):
        yield Subject(user, frozenset(groups), image, 0)
    yield Subject("a-stranger", frozenset(), "an-image", 0)


def test_the_pods_of_every_valid_example_are_accepted(server: Server, report: Report) -> None:
    for path in EXAMPLES:
        document = parse_document(find_document(decode_text(path.read_bytes()), KEY).text)
        for subject in subjects_of(document):
            for pod in make_pods(document, subject):
                created = server.create(pod)
                assert not isinstance(created, StatusError), f"{path.name} for {subject}: {created}"
    report("valid examples", Counter({"documents": len(EXAMPLES), "pods accepted": server.asked}))


NUMBERS = st.one_of(
    st.integers(0, 5000).map(str),
    st.integers(0, 10**20).map(str),
    st.decimals(0, 10**6, allow_nan=False, places=4).map(str),
    st.sampled_from(
        ["0", "1", "00", "007", "1.", ".5", "0.0", "1.10", "+1", "-1", "-0", "9223372036854775807", "1" * 30]
    ),
)
SUFFIXES = st.one_of(
    st.sampled_from(["", *"munkMGTPE", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E3", "e-3", "E+2", "e99"]),
    # These are none.
    st.sampled_from([*"bieKh", "e+", "ki", "mi", "GB", "GiB", "Zi"]),
)
QUANTITIES = st.one_of(
    st.builds("{}{}".format, NUMBERS, SUFFIXES),
    st.text("0123456789.eEmkKMGTi+-", max_size=8),
    st.text(max_size=4),
)
ENV_NAMES = st.one_of(
    st.text("abcXYZ019_.-", min_size=1, max_size=12),
    st.text(st.characters(codec="ascii"), min_size=1, max_size=8),
    st.text(min_size=1, max_size=4),
    st.sampled_from(
        [".", "..", "..a", "a..b", "-", "_", "A", "1A", "A=B", "A B", "a" * 300, "MEM_LIMIT", "JPY_API_TOKEN"]
    ),
)
RESOURCES = st.one_of(
    st.sampled_from(["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-1Gi", "nvidia.com/gpu"]),
    st.sampled_from(["storage", "pods", "gpu", "kubernetes.io/x", "requests.x.org/a"]),
    st.builds("hugepages-{}".format, st.sampled_from(["", "0Mi", "2", "2M", "64Ki", "999999999Gi", "x.org/a"])),
    st.builds(lambda length: f"{'a' * length}/b", st.integers(240, 256)),
    st.builds("{}/{}".format, st.text("ab1.-", min_size=1, max_size=6), st.text("aB1._-", min_size=1, max_size=6)),
    st.text("abz./-", min_size=1, max_size=8),
)


# What we refuse though the server does not, by our messages; "Stricter than Kubernetes" in docs/reference.md says why.
STRICTER = {
    "fraction of a byte": "means .* bytes",
    "zero limit": "limit cannot be",
    "too much": "more than Kubernetes can (?:hold|count)",
    "odd form": "not a Kubernetes quantity|not a whole number, such as 1",
    "odd size of huge pages": "not a size of huge pages",
    "Kubernetes' domain": "reserved for Kubernetes",
    "odd name": "not a name that Kubernetes accepts",
    "the hub's": "belongs to the hub|follows from 'resources'",
}


def find_reason(fault: str) -> str:
    """Say why we alone refuse something, for the report."""
    reasons = [reason for reason, message in STRICTER.items() if re.search(message, fault)]
    assert len(reasons) == 1, f"undocumented: {fault}"
    return f"refused by the parser alone ({reasons[0]})"


def find_fault(resource: str, text: str) -> str | None:
    """Say why our parser refuses a limit; None if it accepts it."""
    document = json.dumps({"profiles": [{"resources": {"limits": {resource: text}}}]})
    try:
        parse_document(document)
    except DocumentError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "resource", ["memory", "cpu", "ephemeral-storage", "nvidia.com/gpu", "hugepages-2Mi", "hugepages-1Gi"]
)
def test_a_quantity_that_is_accepted_means_the_same_to_the_server(
    server: Server, report: Report, resource: str
) -> None:
    seen: Counter[str] = Counter()

    @corpus(VALUES)
    @given(QUANTITIES)
    @example("9223372036854775")
    @example("9223372036854776")
    @example("9Pi")
    @example("3Mi")
    @example("2Gi")
    def ask(text: str) -> None:
        fault = find_fault(resource, text)
        created = server.create_with(resources={"limits": {"memory": "1Gi", resource: text}})
        if isinstance(created, StatusError):
            seen["refused by both"] += 1
            assert fault, f"{text!r} is accepted, and refused by the server: {created}"
        elif fault:
            seen[find_reason(fault)] += 1
        else:
            seen["accepted by both"] += 1
            asked, given = parse_quantity(text), parse_quantity(created["resources"]["limits"][resource])
            if resource == "cpu":
                # The server rounds up to thousandths.
                assert format_cores(asked) == format_cores(given)
                assert Decimal(format_cores(given)) == given.amount
            else:
                assert asked == given

    ask()
    # Few of any amounts are whole pages.
    assert seen["accepted by both"] > VALUES / 50
    report(f"quantities of {resource}", seen)


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param({"limits": {"memory": "1Gi"}}, id="memory"),
        pytest.param({"limits": {"cpu": "1"}}, id="cpu"),
        pytest.param({"requests": {"memory": "1Gi"}}, id="guarantee"),
    ],
)
def test_the_memory_or_cpu_that_huge_pages_need_may_come_from_the_hubs_settings(
    server: Server, beside: dict[str, dict[str, str]]
) -> None:
    pages = {"hugepages-2Mi": "2Mi"}

    assert find_fault("hugepages-2Mi", "2Mi") is None
    assert "HugePages require cpu or memory" in str(server.create_with(resources={"limits": pages}))
    together = {**beside, "limits": {**beside.get("limits", {}), **pages}}
    assert not isinstance(server.create_with(resources=together), StatusError)


def test_a_name_of_a_variable_that_is_accepted_is_accepted_by_the_server(server: Server, report: Report) -> None:
    seen: Counter[str] = Counter()

    @corpus(VALUES // 20)
    @given(st.lists(ENV_NAMES, min_size=20, max_size=20, unique=True))
    def ask(names: list[str]) -> None:
        created = server.create_with(env=[{"name": name, "value": "x"} for name in names])
        refused: set[int] = set()
        if isinstance(created, StatusError):
            fields = [cause["field"] for cause in created.status["details"]["causes"]]
            refused = {int(found[1]) for field in fields if (found := re.search(r"env\[(\d+)\]\.name", field))}
            assert refused, str(created)
        for position, name in enumerate(names):
            ours = explain_env_name(name)
            assert ours or position not in refused, f"{name!r} is accepted, and refused by the server"
            seen["refused by both" if position in refused else find_reason(ours) if ours else "accepted by both"] += 1

    ask()
    assert seen["refused by both"] > 0
    assert seen["accepted by both"] > VALUES / 10
    report("names of variables", seen)


def test_a_name_of_a_resource_that_is_accepted_is_accepted_by_the_server(server: Server, report: Report) -> None:
    seen: Counter[str] = Counter()

    @corpus(VALUES)
    @given(RESOURCES)
    def ask(resource: str) -> None:
        ours = find_fault(resource, "1Gi")
        created = server.create_with(resources={"limits": {"memory": "1Gi", resource: "1Gi"}})
        if isinstance(created, StatusError):
            seen["refused by both"] += 1
            assert ours, f"{resource!r} is accepted, and refused by the server: {created}"
        else:
            seen[find_reason(ours) if ours else "accepted by both"] += 1

    ask()
    assert seen["refused by both"] > 0
    assert seen["accepted by both"] > VALUES / 10
    report("names of resources", seen)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
USERS = st.sampled_from(["ada", "grace", "edsger", "*"])
GROUPS = st.sampled_from(["forecasters", "ops"])
IMAGES = st.sampled_from(["an-image", "an-image:latest", "quay.io/example/*", "quay.io/example/forecast:3.6", "*"])
SUBJECTS = st.builds(
    Subject,
    st.sampled_from(["ada", "grace", "a-stranger"]),
    st.frozensets(GROUPS),
    st.sampled_from(["an-image", "quay.io/example/forecast:3.6"]),
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,10}", fullmatch=True).filter(lambda name: not explain_env_name(name))
DATA_KEYS = st.from_regex(r"[A-Za-z0-9_-][-._A-Za-z0-9]{0,10}", fullmatch=True)
OBJECT_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?(\.[a-z0-9]{1,4})?", fullmatch=True)
SELECTORS = st.fixed_dictionaries(
    {"name": OBJECT_NAMES, "key": DATA_KEYS}, optional={"optional": st.sampled_from(["true", "false"])}
)
FIELDS = st.one_of(
    st.sampled_from(["name", "namespace", "uid", "labels['a/b']", "annotations['A.b/C_d']"]).map("metadata.{}".format),
    st.sampled_from(["nodeName", "serviceAccountName"]).map("spec.{}".format),
    st.sampled_from(["hostIP", "hostIPs", "podIP", "podIPs"]).map("status.{}".format),
)
SOURCES = st.one_of(
    st.builds(lambda selector: {"secretKeyRef": selector}, SELECTORS),
    st.builds(lambda selector: {"configMapKeyRef": selector}, SELECTORS),
    st.builds(lambda path: {"fieldRef": {"fieldPath": path}}, FIELDS),
    st.builds(
        lambda resource, divisor: {"resourceFieldRef": {"resource": resource, **divisor}},
        st.sampled_from(["limits.memory", "requests.cpu", "limits.cpu", "requests.ephemeral-storage"]),
        st.sampled_from([{}, {"divisor": "1"}, {"divisor": "1m"}, {"divisor": "1Mi"}, {"divisor": "0"}]),
    ),
)
VALUE = st.one_of(
    TEXTS, st.just(""), st.builds("$({})".format, NAMES), st.none(), SOURCES.map(lambda s: {"valueFrom": s})
)
AMOUNTS = st.one_of(
    st.none(),
    st.builds("{}{}".format, st.integers(0, 2000), st.sampled_from(["", "m", "k", "M", "Gi", "Mi", "Ki", "e3"])),
    st.decimals(0, 100, places=2).map(str),
)
SECTIONS: dict[str, st.SearchStrategy[Any]] = {
    "name": TEXTS,
    "users": st.lists(USERS, max_size=3),
    "groups": st.lists(GROUPS, max_size=2),
    "images": st.lists(IMAGES, max_size=2),
    "env": st.one_of(
        st.dictionaries(NAMES, VALUE, max_size=6),
        st.lists(
            st.one_of(
                st.fixed_dictionaries({"name": NAMES, "value": TEXTS}),
                st.fixed_dictionaries({"name": NAMES, "valueFrom": SOURCES}),
            ),
            max_size=4,
            unique_by=lambda item: item["name"],
        ),
    ),
    "resources": st.one_of(
        st.dictionaries(st.sampled_from(["mem_limit", "cpu_limit", "mem_guarantee", "cpu_guarantee"]), AMOUNTS),
        st.dictionaries(
            st.sampled_from(["limits", "requests"]),
            st.dictionaries(
                st.sampled_from(["memory", "cpu", "ephemeral-storage", "nvidia.com/gpu", "example.org/a"]),
                AMOUNTS,
                max_size=3,
            ),
        ),
    ),
}
PROFILES = st.lists(st.fixed_dictionaries({}, optional=SECTIONS), max_size=5)


def test_the_pods_of_generated_documents_are_accepted(server: Server, report: Report) -> None:
    seen: Counter[str] = Counter()

    @corpus(DOCUMENTS)
    @given(PROFILES, st.sets(SUBJECTS, min_size=1, max_size=2))
    def ask(profiles: list[Object], subjects: set[Subject]) -> None:
        text = json.dumps({"profiles": profiles}, ensure_ascii=False)
        try:
            document = parse_document(text)
        except DocumentError:
            reject()
        seen["documents"] += 1
        for subject in subjects:
            seen["documents x subjects"] += 1
            for pod in make_pods(document, subject):
                created = server.create(pod)
                assert not isinstance(created, StatusError), f"{text} for {subject}: {created}"
                seen["pods accepted"] += 1

    ask()
    assert seen["documents x subjects"] >= DOCUMENTS
    report("generated", seen)
