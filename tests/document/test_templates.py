"""Templates: nobody arrives at what is somebody else's, through KubeSpawner's own expansion of real names."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubespawner import KubeSpawner
from kubespawner.slugs import safe_slug

from profiled_spawner.document.parser import validate_document
from profiled_spawner.document.templates import (
    TEMPLATE_FIELDS,
    Template,
    expand_template,
    explain_collision,
    identifies_only_server,
    is_unique_per_user,
)
from profiled_spawner.errors import PodError

# Names that tell a careless template: parts of each other, of slugs and of what separates them.
PEOPLE = [
    *("a", "b", "ab", "a-", "-a", "a-b", "a--b", "a-b-c", "a1", "a.b", "a_b", "a b", "A", "é", "1", "12", "2db", "x"),
    *("a..", "x-a", "a-2db", "ada@example.org", "..a", "a" * 50, "a" * 51, "b-c", "c", "1-2", "a-1", "b-a", "a-x"),
]
IDS = {"a": 12, "a1": 2}
# The hash of "a..", which KubeSpawner appends behind three hyphens.
HASH = safe_slug("a..").rpartition("-")[2]
SERVERS = [
    *("", "b", "c", "b-c", "-b", "b-", "--b", "1", "2db", "2db-", "a", "é", ".", "..", "x.y", "B", "a" * 50),
    *("b.", "b-a", "a-", "x", "x-", HASH),
]
TEXTS = ["", "-", "--", "---", ".", "_", "/", "x", "-x", "x-", "x--", "home-", "/home/"]


def make_expand(user: str, userid: int, server: str, scheme: str) -> Callable[[str], str]:
    """KubeSpawner's own expansion for a server, which uses no more of its instance than this."""
    spawner: Any = SimpleNamespace(
        user=SimpleNamespace(name=user, id=userid), name=server, slug_scheme=scheme, _namespace_default=lambda: "jhub"
    )

    def expand(template: str) -> str:
        expanded: str = KubeSpawner._expand_user_properties(spawner, template)
        return expanded

    # As `KubeSpawner.__init__` does.
    spawner.namespace = "jhub"
    spawner.pod_name = expand("jupyter-{user_server}")
    spawner.pvc_name = expand("claim-{user_server}")
    return expand


SERVERS_OF_ALL = [
    (user, [make_expand(user, IDS.get(user, userid), server, scheme) for scheme in ("safe", "escape")])
    for userid, user in enumerate(PEOPLE, 100)
    for server in SERVERS
]


def is_never_the_same(template: str) -> bool:
    """Whether no two of the people arrive at the same, those left out whom a start refuses."""
    for scheme in (0, 1):
        owners: dict[str, str] = {}
        for user, expansions in SERVERS_OF_ALL:
            try:
                text = expand_template(Template(template, lambda _: None, True), expansions[scheme])
            except PodError:
                continue
            if owners.setdefault(text, user) != user:
                return False
    return True


def make_templates() -> Iterator[str]:
    """Random templates with one to three fields, the same ones in every run."""
    chance = random.Random(11)
    names = list(TEMPLATE_FIELDS)
    for _ in range(150):
        fields = chance.choices(names, k=chance.choice([1, 2, 2, 2, 3]))
        texts = chance.choices(TEXTS, k=len(fields) + 1)
        yield "".join(f"{text}{{{name}}}" for text, name in zip(texts, fields, strict=False)) + texts[-1]


@pytest.mark.parametrize("template", sorted(set(make_templates())))
def test_what_tells_people_apart_is_never_the_same_for_two(template: str) -> None:
    if is_unique_per_user(template):
        assert is_never_the_same(template)


@pytest.mark.parametrize(
    "template",
    [
        "{username}{servername}",
        "home-{username}{servername}",
        "{username}-{servername}",
        "{username}---{servername}",
        "{escaped_username}-{escaped_servername}",
        "{username}{userid}",
        "{unescaped_username}-{unescaped_servername}",
        "{unescaped_username}.{unescaped_servername}",
        "{unescaped_username}--{servername}",
        "{servername}-{username}",
        "/home/{username}-{servername}/data",
    ],
)
def test_what_two_people_can_arrive_at_is_refused(template: str) -> None:
    assert explain_collision(template)
    assert not is_never_the_same(template)


@pytest.mark.parametrize(
    "template",
    [
        "{username}",
        "{user_server}",
        "home-{user_server}",
        "{unescaped_username}",
        "/home/{unescaped_username}",
        "{username}--{servername}",
        "{escaped_username}--{escaped_servername}",
        "{safe_username}.{safe_servername}",
        "{username}/{servername}",
        "{unescaped_username}/{unescaped_servername}",
        "{userid}-{servername}",
        "{servername}-{userid}",
        "{username}-{username}",
        "{namespace}-{username}",
        "{{{username}}}",
        "{pvc_name}",
        "teams/{servername}/{username}",
    ],
)
def test_what_tells_people_apart_is_taken(template: str) -> None:
    assert is_unique_per_user(template)
    assert not explain_collision(template)
    assert is_never_the_same(template)


@pytest.mark.parametrize(
    ("template", "alone"),
    [("{servername}", True), ("x-{unescaped_servername}", True), ("{username}/{servername}", False), ("x", False)],
)
def test_a_server_alone_names_nobody(template: str, alone: bool) -> None:
    assert identifies_only_server(template) == alone
    assert not explain_collision(template) or not alone


def expand_for(template: str, user: str, server: str = "", explain: Callable[[str], str | None] = str) -> str:
    expand = make_expand(user, 1, server, "safe")
    return expand_template(Template(template, lambda text: explain(text) or None, True), expand)


@pytest.mark.parametrize(
    ("template", "user", "server", "what"),
    [
        pytest.param("/home/{unescaped_username}", "..", "", "has '..' or a control character", id="parent"),
        pytest.param("/home/{unescaped_username}/x", "..", "", "has '..' or a control character", id="parent-within"),
        pytest.param(
            "a/{username}/{unescaped_servername}", "ada", "..", "has '..' or a control", id="server-as-parent"
        ),
        pytest.param("a/{unescaped_servername}", "ada", "b/../../c", "has '..' or a control", id="parent-with-slashes"),
        pytest.param("/home/{unescaped_username}", "ada\nx", "", "has '..' or a control", id="newline"),
        pytest.param("/home/{unescaped_username}", "ada\u2028x", "", "has '..' or a control", id="line-separator"),
        pytest.param("/home/{unescaped_username}", "ada-", "", "ends in a hyphen, which", id="hyphen-that-is-dropped"),
        pytest.param("{username}/{unescaped_servername}", "ada", "b-", "ends in a hyphen, which", id="of-a-server"),
    ],
)
def test_names_that_lead_astray_start_no_server(template: str, user: str, server: str, what: str) -> None:
    with pytest.raises(PodError, match=what) as failure:
        expand_for(template, user, server, lambda _: None)

    assert repr(template) in str(failure.value)
    assert user == ".." or user not in str(failure.value).replace(repr(template), "")


def test_a_fault_of_the_field_starts_no_server() -> None:
    with pytest.raises(PodError, match=r"the expansion of '\{servername\}' for this server is not a name$"):
        expand_for("{servername}", "ada", explain=lambda text: None if text else "not a name")


@given(st.text(min_size=1).filter(lambda name: "/" not in name), st.text())
@settings(max_examples=200, deadline=None)
def test_no_name_leads_out_of_a_path(user: str, server: str) -> None:
    for template in ("/home/{unescaped_username}", "/x/{unescaped_username}/{unescaped_servername}", "/{user_server}/"):
        try:
            path = expand_for(template, user, server, lambda _: None)
        except (PodError, UnicodeEncodeError):  # KubeSpawner has no slug for half of a surrogate pair
            continue
        assert ".." not in path.split("/")
        assert "\n" not in path


def volumes(*sources: str) -> Iterable[str]:
    return [f"profiles: [{{volumes: [{{name: a, mountPath: /a, {source}}}]}}]" for source in sources]


@pytest.mark.parametrize(
    "text",
    [
        *volumes(
            "nfs: {server: nfs.example.org, path: '/export/TEMPLATE'}",
            "nfs: {server: 'TEMPLATE.example.org', path: /export}",
            "hostPath: {path: '/data/TEMPLATE'}",
            "csi: {driver: s3.example.org, volumeAttributes: {bucket: 'TEMPLATE'}}",
            "csi: {driver: s3.example.org, nodePublishSecretRef: {name: 'TEMPLATE'}}",
            "persistentVolumeClaim: {claimName: 'TEMPLATE'}",
            "secret: {secretName: 'TEMPLATE'}",
            "configMap: {name: 'TEMPLATE'}",
            "projected: {sources: [{secret: {name: 'TEMPLATE'}}]}",
            "image: {reference: 'registry.example.org/TEMPLATE'}",
            "subPath: 'TEMPLATE', persistentVolumeClaim: {claimName: team}",
        ),
        "profiles: [{env_from: [{secretRef: {name: 'TEMPLATE'}}]}]",
        "profiles: [{env: {A: {valueFrom: {secretKeyRef: {name: 'TEMPLATE', key: a}}}}}]",
    ],
)
class TestPlaces:
    """Every place in which a document can name what may be somebody's."""

    def test_a_template_is_taken(self, text: str) -> None:
        checked = validate_document(text.replace("TEMPLATE", "{user_server}"))

        assert (checked.errors, checked.warnings) == ((), ())

    def test_one_that_mixes_people_up_is_an_error(self, text: str) -> None:
        (error,) = validate_document(text.replace("TEMPLATE", "{username}-{servername}")).errors

        assert "could be the same for two people" in error.what

    def test_one_of_a_server_alone_is_a_warning(self, text: str) -> None:
        checked = validate_document(text.replace("TEMPLATE", "x-{servername}"))

        assert checked.errors == ()
        assert "people name their servers as they like" in checked.warnings[0].what

    def test_an_unknown_field_is_an_error(self, text: str) -> None:
        (error,) = validate_document(text.replace("TEMPLATE", "{home}")).errors

        assert "a field that KubeSpawner does not have" in error.what


@pytest.mark.parametrize(
    ("source", "fits"),
    [
        ("persistentVolumeClaim: {claimName: 'home-{username}'}", True),
        ("nfs: {server: nfs, path: '/home/{unescaped_username}'}", True),
        ("persistentVolumeClaim: {claimName: team}", False),
    ],
)
@pytest.mark.parametrize("path", ["{servername}", "{username}-{servername}"])
def test_below_what_is_a_persons_own_a_path_may_be_anything(source: str, path: str, fits: bool) -> None:
    checked = validate_document(*volumes(f"subPath: '{path}', {source}"))

    assert (not checked.errors and not checked.warnings) == fits


def test_where_a_volume_is_mounted_is_nobodys_but_the_servers() -> None:
    text = "profiles: [{volumes: [{name: a, mountPath: '/{username}{servername}', emptyDir: {}}]}]"

    assert validate_document(text).errors == ()


@pytest.mark.parametrize("where", ['mountPath: "/a{}"', 'mountPath: /a, subPath: "a{}"'])
@pytest.mark.parametrize("text", [r"\n", r"\x07", "/..", "/../b", "/x/.."])
def test_a_path_has_one_line_and_no_way_out(where: str, text: str) -> None:
    (error,) = validate_document(f"profiles: [{{volumes: [{{name: a, {where.format(text)}, emptyDir: {{}}}}]}}]").errors

    assert "on one line and without '..'" in error.what


def test_every_pair_of_fields_without_a_text_between_is_refused_or_told_apart() -> None:
    for one, other in product(TEMPLATE_FIELDS, repeat=2):
        template = f"{{{one}}}{{{other}}}"
        if is_unique_per_user(template):
            assert is_never_the_same(template), template


def test_names_of_pods_and_claims_may_have_dots() -> None:
    assert explain_collision("{pod_name}.{pvc_name}") is not None
    assert explain_collision("{pod_name}/{pvc_name}") is None
