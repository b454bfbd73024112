"""Whether assertions hold: as `explain` says for a subject, and over everybody."""

from __future__ import annotations

import pytest

from profiled_spawner.command.assertions import parse_test_file
from profiled_spawner.command.assessment import Assessor, Verdict
from profiled_spawner.command.results import FileResult, format_text
from profiled_spawner.command.terminal import Style
from profiled_spawner.document.model import Document, combine_documents
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.times import parse_start

DOCUMENT = """
timezone: Europe/Athens
profiles:
- name: globals
  env: {TEAM: CANARY-none, DEBUG: CANARY-debug}
  resources: {mem_limit: 1Gi, cpu_guarantee: 500m}
- name: forecasting
  images: ["lab/*"]
  groups: [forecasters]
  env: {TEAM: CANARY-team, S3_KEY: {valueFrom: {secretKeyRef: {name: team-s3, key: key}}}, DEBUG: null}
  env_from: [{secretRef: {name: team-env}}]
  resources: {mem_limit: 2Gi, cpu_guarantee: null}
  gpu: 0
  volumes:
  - {name: data, mountPath: /data, persistentVolumeClaim: {claimName: team-data}}
  - {name: keys, mountPath: /keys, secret: {secretName: "keys-{username}"}}
  - {name: all, mountPath: /all, projected: {sources: [{secret: {name: projected}}]}}
- {name: course, groups: [students], from: 2026-12-01, until: 2026-12-31, env: {COURSE: CANARY-course}, gpu: 1}
- {users: [edsger], env: {S3_KEY: CANARY-mine}}
sizes:
- {name: Large, groups: [forecasters], resources: {mem_limit: 8Gi}}
"""
IMAGES = """
profiles:
- {name: lab, images: ["lab:*"], env: {LAB: CANARY}}
images:
- {name: Lab, image: "lab:1", users: [ada]}
- {name: RStudio, image: rstudio, groups: [statisticians]}
"""
NOW = parse_start("2026-11-27T05:00Z", parse_document("profiles: []").timezone)

GRACE = "{user: grace, groups: [forecasters], image: lab/a}"


def verdicts_of(assertion: str, document: str | Document = DOCUMENT) -> list[Verdict]:
    file = parse_test_file(f"assertions: [{assertion.replace('GRACE', GRACE)}]")
    assert file.errors == ()
    document = parse_document(document) if isinstance(document, str) else document
    assessor = Assessor(document, "specificity", NOW)
    return [assessor.assess(each) for each in file.assertions]


def lines_of(assertion: str, document: str | Document = DOCUMENT) -> list[str]:
    """What is told of an assertion that does not hold."""
    file = parse_test_file(f"assertions: [{assertion.replace('GRACE', GRACE)}]")
    text = format_text(FileResult("t", file, verdicts_of(assertion, document)), Style())
    assert "CANARY" not in text
    assert text.endswith("t: 1 assertion fails")
    return [" ".join(line.split()) for line in text.splitlines()[:-1]]


@pytest.mark.parametrize(
    "assertion",
    [
        "{subject: GRACE, has: {env: {TEAM: CANARY-team}}}",
        "{subject: GRACE, has: {env: {DEBUG: null}}}",
        "{subject: GRACE, has: {env: [TEAM, S3_KEY]}}",
        "{subject: GRACE, has: {env: {S3_KEY: {valueFrom: {secretKeyRef: {name: team-s3, key: key}}}}}}",
        "{subject: GRACE, has: {resources: {mem_limit: 2048Mi, cpu_guarantee: null}, gpu: 0}}",
        "{subject: GRACE, has: {secrets: [team-s3, team-env, 'keys-{username}', projected]}}",
        "{subject: GRACE, has: {claims: [team-data], profiles: [globals, forecasting], sizes: [Large]}}",
        "{subject: {user: grace, groups: [forecasters], size: Large}, has: {resources: {mem_limit: 8Gi}}}",
        "{subject: GRACE, has_not: {env: [DEBUG, COURSE], resources: [gpu, cpu], secrets: [admin, team]}}",
        "{subject: GRACE, has_not: {claims: [keys-a], profiles: [course]}}",
        "{subject: {user: edsger, groups: [forecasters], image: lab/a}, has_not: {profiles: [course]}}",
        "{subject: {user: ada}, has_not: {secrets: [team-s3], sizes: [Large]}, has: {profiles: [globals]}}",
        "{subject: {user: ada, groups: [students]}, has_not: {env: [COURSE]}}",
        "{subject: {user: ada, groups: [students], at: 2026-12-01T00:00}, has: {env: [COURSE], gpu: 1}}",
        "{subject: {user: ada, groups: [students], at: 2026-12-31T22:30}, has: {env: [COURSE]}}",
        "{subject: {user: edsger}, has: {env: {S3_KEY: CANARY-mine}, profiles: ['profiles[3]']}}",
    ],
)
def test_what_a_subject_has_holds(assertion: str) -> None:
    (verdict,) = verdicts_of(assertion)
    assert verdict.failures == ()


@pytest.mark.parametrize(
    ("assertion", "lines"),
    [
        pytest.param(
            "{subject: GRACE, has: {env: {TEAM: CANARY, S3_KEY: CANARY, DEBUG: CANARY, COURSE: CANARY}}}",
            [
                "t:1:14: fails: what grace has",
                "for grace, in forecasters, on lab/a",
                "expected variable TEAM with the value in the test file",
                "found another value, from forecasting",
                "expected variable S3_KEY with the value in the test file",
                "found secret team-s3, key key, from forecasting",
                "expected variable DEBUG with the value in the test file",
                "found taken away by forecasting",
                "expected variable COURSE with the value in the test file",
                "found nothing: course gives it, but does not fit (not a member of students; for every image; "
                "from 1 December)",
            ],
            id="values",
        ),
        pytest.param(
            "{name: secret, subject: {user: ada}, has: {env: {TEAM: null, "
            "S3_KEY: {valueFrom: {secretKeyRef: {name: team-s3, key: key}}}}}}",
            [
                "t:1:14: fails: secret",
                "for ada, on any other image",
                "expected variable TEAM taken away",
                "found another value, from globals",
                "expected variable S3_KEY with secret team-s3, key key",
                "found nothing: forecasting gives it, but does not fit (not a member of forecasters; "
                "image is not lab/*)",
            ],
            id="sources",
        ),
        pytest.param(
            "{subject: GRACE, has: {resources: {mem_limit: 1Gi, cpu_guarantee: 1, cpu_limit: 1, "
            "mem_guarantee: null}, gpu: 1}}",
            [
                "t:1:14: fails: what grace has",
                "for grace, in forecasters, on lab/a",
                "expected memory limit of 1Gi",
                "found 2Gi, from forecasting",
                "expected cpu limit of 1",
                "found nothing: no profile gives it",
                "expected cpu guarantee of 1",
                "found taken away by forecasting",
                "expected memory guarantee taken away",
                "found nothing: no profile gives it",
                "expected nvidia.com/gpu limit of 1",
                "found 0, from forecasting",
            ],
            id="amounts",
        ),
        pytest.param(
            "{subject: {user: edsger, groups: [forecasters], image: lab/a}, "
            "has: {secrets: [admin, team-s3], claims: [home], profiles: [course], sizes: [Large], env: [DEBUG]}}",
            [
                "t:1:14: fails: what edsger has",
                "for edsger, in forecasters, on lab/a",
                "expected secret admin",
                "found nothing: no profile gives it",
                "expected claim home",
                "found nothing: no profile gives it",
                "expected profile course",
                "found nothing: course gives it, but does not fit (not a member of students; for every image; "
                "from 1 December)",
                "expected variable DEBUG",
                "found taken away by forecasting",
            ],
            id="things",
        ),
        pytest.param(
            "{subject: GRACE, has_not: {env: [TEAM], secrets: [projected], claims: [team-data], "
            "resources: [memory], profiles: [globals], sizes: [Large]}}",
            [
                "t:1:14: fails: what grace has",
                "for grace, in forecasters, on lab/a",
                "expected no variable TEAM",
                "found variable TEAM, from forecasting",
                "expected no secret projected",
                "found secret projected, from forecasting",
                "expected no claim team-data",
                "found claim team-data, from forecasting",
                "expected no resource memory",
                "found resource memory, from forecasting",
                "expected no profile globals",
                "found profile globals, from globals",
                "expected no size Large",
                "found size Large",
            ],
            id="what it must not have",
        ),
        pytest.param(
            "{subject: {user: grace, groups: [forecasters], image: lab/a, size: Large, at: 2026-12-01}, "
            "has: {resources: {mem_limit: 2Gi}}}",
            [
                "t:1:14: fails: what grace has",
                "for grace, in forecasters, on lab/a, with the size Large, at 2026-12-01",
                "expected memory limit of 2Gi",
                "found 8Gi, from size Large",
            ],
            id="size",
        ),
        pytest.param(
            "{subject: {user: ada, size: Large}, has: {profiles: [globals]}}",
            [
                "t:1:14: fails: what ada has",
                "expected a choice that is offered",
                "found there is no size 'Large' for ada; choose one of: default",
            ],
            id="a size that is not offered",
        ),
        pytest.param(
            "{subject: {user: ada, at: '2026-03-29T03:30'}, has: {profiles: [globals]}}",
            [
                "t:1:14: fails: what ada has",
                "expected a moment that there is",
                "found 2026-03-29T03:30 does not exist in Europe/Athens, since clocks change; add an offset: "
                "2026-03-29T03:30+02:00 or 2026-03-29T03:30+03:00",
            ],
            id="a moment that clocks skip",
        ),
        pytest.param(
            "{subject: {user: ada, groups: [forcasters], size: Lage, image_choice: Lab}, "
            "has: {profiles: [forecastin], sizes: [Small]}, has_not: {profiles: [global]}}",
            [
                "t:1:14: fails: what ada has",
                "expected the document names the group forcasters",
                "found no such group; did you mean forecasters?",
                "expected the document names the profile forecastin",
                "found no such profile; did you mean forecasting?",
                "expected the document names the size Small",
                "found no such size; it names Large",
                "expected the document names the profile global",
                "found no such profile; did you mean globals?",
                "expected the document names the image Lab",
                "found no such image; it names none at all",
                "expected the document names the size Lage",
                "found no such size; did you mean Large?",
            ],
            id="names that are not there",
        ),
    ],
)
def test_what_a_subject_does_not_have_is_told(assertion: str, lines: list[str]) -> None:
    assert lines_of(assertion) == lines


def test_without_an_image_it_must_hold_on_each_that_may_be_chosen() -> None:
    both = "{subject: {user: ada, groups: [statisticians]}, has: {env: [LAB], images: [Lab, RStudio]}}"
    assert lines_of(both, IMAGES) == [
        "t:1:14: fails: what ada has",
        "for ada, in statisticians, on rstudio (RStudio)",
        "expected variable LAB",
        "found nothing: lab gives it, but does not fit (for every user; image is not lab:*)",
    ]
    chosen = "{subject: {user: ada, groups: [statisticians], image_choice: Lab}, has: {env: [LAB]}}"
    assert verdicts_of(chosen, IMAGES)[0].holds
    alone = "{subject: {user: ada}, has: {env: [LAB]}, has_not: {images: [RStudio]}}"
    assert verdicts_of(alone, IMAGES)[0].holds


def test_a_server_that_cannot_start_has_nothing() -> None:
    document = f"profiles: [{'{env: {A: b}},' * 501}]"
    for assertion in ("{subject: {user: a}, has: {env: [A]}}", "{subject: {user: a}, has_not: {env: [B]}}"):
        assert lines_of(assertion, document)[2:] == [
            "expected a server that can start",
            "found no server can start: more than 500 profiles fit, whatever their time, and a server can have no more",
        ]


def test_profiles_of_selected_configmaps_are_called_after_them() -> None:
    team = parse_document("profiles: [{name: a, env: {A: b}}]").of_configmap("team")
    document = combine_documents(parse_document("profiles: []"), [team]).document
    assert verdicts_of("{subject: {user: a}, has: {profiles: [team/a, a]}}", document)[0].holds
    assert lines_of("{subject: {user: a}, has_not: {env: [A]}}", document)[-1] == "found variable A, from team/a"
