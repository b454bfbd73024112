"""What changes is told by who is affected, in names and never in values."""

from __future__ import annotations

from datetime import UTC

import pytest

from oracle.runner import parse
from profiled_spawner.command.differences import find_differences, format_text, summarize, to_json, to_markdown
from profiled_spawner.command.terminal import Style
from profiled_spawner.decide.comparison import Comparison, compare_documents

OLD = """
profiles:
- {name: globals, env: {A: CANARY-old}}
- {name: forecast, images: ["lab/*"], groups: [forecasters], env: {B: CANARY-b}}
- {name: exam, users: [ada, edsger], resources: {mem_limit: 2Gi}}
"""
NEW = """
profiles:
- {name: globals, env: {A: CANARY-new}}
- {name: forecast, images: ["lab/*", course], groups: [forecasters, students], env: {B: CANARY-b}}
- {name: exam, users: [ada], from: 2027-02-01, resources: {mem_limit: 4Gi}}
"""


TEAM = "profiles: []\nteams: [{name: t, configmaps: [t], groups: [f]}]\n--- # t\n"


def compare(old: str, new: str) -> Comparison:
    old, new = (text if "profiles:" in text else f"profiles: [{text}]" for text in (old, new))
    return compare_documents(parse(old), parse(new), since=0)


def lines_of(old: str, new: str) -> list[str]:
    comparison = compare(old, new)
    text = format_text(find_differences(comparison, UTC, 0), summarize(comparison), Style())
    assert "CANARY" not in text
    return text.splitlines()


def test_it_is_told_by_who_is_affected() -> None:
    assert lines_of(OLD, NEW) == [
        "everyone changes, 2 groups gain, 1 user loses, 1 user changes",
        "",
        "everyone",
        "  ~ variable A  from globals",
        "",
        "ada, edsger",
        "  - limit of memory  from exam",
        "",
        "members of forecasters, students, on course",
        "  + variable B  from forecast",
        "",
        "members of students, on images that match lab/*",
        "  + variable B  from forecast",
        "",
        "ada, from 1 February 2027",
        "  ~ limit of memory  from exam",
    ]


def test_nothing_is_one_line() -> None:
    assert lines_of(OLD, OLD) == ["nothing changes for anybody"]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        pytest.param(
            "{name: a, groups: [g], env: {A: b}}, {name: b, groups: [h], env: {A: c}}",
            "{name: b, groups: [h], env: {A: c}}, {name: a, groups: [g], env: {A: b}}",
            [
                "1 combination of groups changes, everyone else is unchanged",
                "",
                "whoever is in g and h",
                "  ~ variable A  from a, before from b",
            ],
            id="two groups at once",
        ),
        pytest.param(
            "{name: a, groups: [g], env: {A: b}}, {name: b, users: [ada], env: {A: c}}",
            "{name: b, users: [ada], env: {A: c}}, {name: a, groups: [g], env: {A: b}}",
            [
                "1 combination of groups changes, everyone else is unchanged",
                "",
                "ada, if in g",
                "  ~ variable A  from a, before from b",
            ],
            id="a user in a group",
        ),
        pytest.param(
            "profiles: []\nsizes: [{name: L, gpu: 1}]\nimages: [{name: I, image: i}]",
            "profiles: []\nsizes: [{name: L, gpu: 1, env: {A: b}}, {name: M}]\nimages: [{name: I, image: j}]",
            [
                "everyone changes",
                "",
                "everyone",
                "  + size M",
                "  ~ image I",
                "",
                "everyone, with the image I, with the size L",
                "  + variable A  from size L",
            ],
            id="choices",
        ),
        pytest.param(
            "{name: a}",
            "{name: a, env_from: [{secretRef: {name: s}}], node_selector: {pool: gpu}, labels: {team: a}, "
            "annotations: {example.org/a: b}, gpu: 1, resources: {cpu_guarantee: 1}, "
            "node_tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}], "
            "volumes: [{name: v, mountPath: /v, emptyDir: {}}], node_affinity: "
            "{requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
            "[{matchExpressions: [{key: pool, operator: In, values: [gpu]}]}]}, "
            "preferredDuringSchedulingIgnoredDuringExecution: "
            "[{weight: 1, preference: {matchExpressions: [{key: zone, operator: Exists}]}}]}}",
            [
                "everyone changes",
                "",
                "everyone",
                "  + limit of nvidia.com/gpu  from a",
                "  + guarantee of cpu  from a",
                "  + node label pool  from a",
                "  + label team  from a",
                "  + annotation example.org/a  from a",
                "  + all variables of secret s  from a",
                "  + toleration of gpu:NoSchedule  from a",
                "  + required node: pool In (gpu)  from a",
                "  + volume v at /v: emptyDir  from a",
                "  ~ preferred node: zone Exists  from a",
            ],
            id="every section",
        ),
        pytest.param(
            "{name: a, env_from: [{secretRef: {name: s}}, {secretRef: {name: t}}]}",
            "{name: a, env_from: [{secretRef: {name: t}}, {secretRef: {name: s}}]}",
            [
                "everyone changes",
                "",
                "everyone",
                "  ~ which variables override others: those of secret t  from a",
            ],
            id="order of sources",
        ),
        pytest.param(
            "profiles: []\nsizes: [{name: L}, {name: M}]",
            "profiles: []\nsizes: [{name: M}, {name: L}]",
            ["everyone changes", "", "everyone", "  ~ order of L, M"],
            id="order of sizes",
        ),
        pytest.param(
            "profiles: []\nquotas: [{name: a, hard: {pods: 1}}, {name: b, hard: {pods: 1}}]",
            "profiles: []\nquotas: [{name: b, hard: {pods: 2}}, {name: c, per: user, hard: {pods: 1}}]",
            ["everyone changes", "", "everyone", "  - quota a", "  + quota c", "  ~ quota b"],
            id="quotas",
        ),
        pytest.param(
            "profiles: []\nquotas: [{name: a, groups: [g], hard: {pods: 1}}]",
            "profiles: []\nquotas: [{name: a, groups: [g, h], until: 2027-01-31, hard: {pods: 1}}]",
            [
                "1 group gains, 1 group changes, everyone else is unchanged",
                "",
                "members of g",
                "  ~ quota a",
                "",
                "members of h",
                "  + quota a",
                "",
                "members of g, from 1 February 2027",
                "  - quota a",
            ],
            id="who shares a quota",
        ),
        pytest.param(
            f"{TEAM}profiles: []",
            f"{TEAM}profiles: [{{name: a, users: [ada, bo], groups: [s], env: {{A: b}}}}, {{name: b, env: {{B: c}}}}]",
            [
                "1 group gains, 3 combinations of groups gain, everyone else is unchanged",
                "",
                "members of f",
                "  + variable B  from t/b",
                "",
                "members of s and ada, bo, if in f",
                "  + variable A  from t/a",
            ],
            id="of a team",
        ),
    ],
)
def test_each_kind_of_change_has_its_words(old: str, new: str, lines: list[str]) -> None:
    assert lines_of(old, new) == lines


def test_a_user_called_somebody_is_that_user() -> None:
    ours, theirs = "{groups: [g], env: {A: b}}", "{users: [somebody-2], env: {A: c}}"
    assert "somebody-2, if in g" in lines_of(f"{ours}, {theirs}", f"{theirs}, {ours}")


def test_a_crowd_is_not_listed_name_by_name() -> None:
    users = ", ".join(f"user-{number:02}" for number in range(30))
    lines = lines_of("", f"{{name: a, users: [{users}], env: {{A: b}}}}")
    assert lines[0] == "30 users gain, everyone else is unchanged"
    assert lines[2].endswith("user-09 and 20 more")


def test_json_has_the_shape_that_programs_rely_on() -> None:
    comparison = compare(OLD, NEW)
    told = to_json(comparison, find_differences(comparison, UTC, 0))
    assert told["equal"] is False
    assert told["summary"] == {
        "everyone": True,
        "groups": ["forecasters", "students"],
        "users": ["ada", "edsger"],
        "combinations": 0,
    }
    assert told["changes"][-1] == {
        "example": {
            "user": "ada",
            "groups": [],
            "image": "x",
            "image_choice": None,
            "size": "default",
            "at": "2027-02-01T00:00:00Z",
        },
        "who": "ada",
        "when": "from 1 February 2027",
        "lost": [],
        "gained": [],
        "changed": ["limit of memory"],
    }


def test_markdown_has_no_mark_of_a_name() -> None:
    comparison = compare("", "{name: '*a*', groups: ['<b>'], env: {A_B: c}}")
    text = to_markdown(find_differences(comparison, UTC, 0), summarize(comparison))
    assert text.splitlines() == [
        "**1 group gains, everyone else is unchanged**",
        "",
        r"members of \<b\>",
        "",
        r"- gained: variable A\_B (from \*a\*)",
    ]
