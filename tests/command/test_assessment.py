"""Whether assertions hold: as `explain` says for a subject, and over everybody."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from oracle.runner import parse
from oracle.world import GROUPS, INSTANTS, LITERALS, USERS, make_pair
from profiled_spawner.command.assertions import EverybodyAssertion, Person, SubjectAssertion, parse_test_file
from profiled_spawner.command.assessment import Assessor, Verdict
from profiled_spawner.command.results import FileResult, format_text
from profiled_spawner.command.terminal import Style
from profiled_spawner.decide.holders import Thing
from profiled_spawner.document.model import GPU, Document, combine_documents
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
  resources: {mem_limit: 2Gi, cpu_guarantee: null, requests: {ephemeral-storage: 0}}
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
        "{subject: GRACE, has_not: {env: [DEBUG, COURSE], secrets: [admin, team]}}",
        "{subject: GRACE, has_not: {resources: [gpu, cpu, ephemeral-storage]}}",
        "{subject: GRACE, has_not: {claims: [keys-a], profiles: [course], secrets: [key-a]}}",
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
                "found removed by forecasting",
                "expected variable COURSE with the value in the test file",
                "found nothing: course gives it, but does not match (not a member of students; for every image; "
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
                "expected variable TEAM removed",
                "found another value, from globals",
                "expected variable S3_KEY with secret team-s3, key key",
                "found nothing: forecasting gives it, but does not match (not a member of forecasters; "
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
                "found removed by forecasting",
                "expected memory guarantee removed",
                "found nothing: no profile gives it",
                "expected nvidia.com/gpu limit of 1",
                "found 0, from forecasting",
            ],
            id="amounts",
        ),
        pytest.param(
            "{subject: {user: edsger, groups: [forecasters], image: lab/a}, "
            "has: {secrets: [admin, team-s3, keys-ada], claims: [home], profiles: [course], sizes: [Large], "
            "env: [DEBUG]}}",
            [
                "t:1:14: fails: what edsger has",
                "for edsger, in forecasters, on lab/a",
                "expected secret admin",
                "found nothing: no profile gives it",
                "expected secret keys-ada",
                "found only a template that could become it, from forecasting",
                "expected claim home",
                "found nothing: no profile gives it",
                "expected profile course",
                "found nothing: course gives it, but does not match (not a member of students; for every image; "
                "from 1 December)",
                "expected variable DEBUG",
                "found removed by forecasting",
            ],
            id="things",
        ),
        pytest.param(
            "{subject: GRACE, has_not: {env: [TEAM], secrets: [projected, keys-ada], claims: [team-data], "
            "resources: [memory], profiles: [globals], sizes: [Large]}}",
            [
                "t:1:14: fails: what grace has",
                "for grace, in forecasters, on lab/a",
                "expected no variable TEAM",
                "found variable TEAM, from forecasting",
                "expected no secret projected",
                "found secret projected, from forecasting",
                "expected no secret keys-ada",
                "found secret keys-ada, from forecasting",
                "expected no claim team-data",
                "found claim team-data, from forecasting",
                "expected no resource memory",
                "found resource memory, from forecasting",
                "expected no profile globals",
                "found profile globals",
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
                "expected the document names the image Lab",
                "found no such image; it names none at all",
                "expected the document names the size Lage",
                "found no such size; did you mean Large?",
                "expected the document names the profile forecastin",
                "found no such profile; did you mean forecasting?",
                "expected the document names the size Small",
                "found no such size; it names Large",
                "expected the document names the profile global",
                "found no such profile; did you mean globals?",
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
        "found nothing: lab gives it, but does not match (for every user; image is not lab:*)",
    ]
    chosen = "{subject: {user: ada, groups: [statisticians], image_choice: Lab}, has: {env: [LAB]}}"
    assert verdicts_of(chosen, IMAGES)[0].holds
    alone = "{subject: {user: ada}, has: {env: [LAB]}, has_not: {images: [RStudio]}}"
    assert verdicts_of(alone, IMAGES)[0].holds


def test_more_images_than_can_be_told_apart_need_one_image() -> None:
    document = (
        "profiles: [" + "".join(f'{{images: ["*{number}*"], env: {{A: b}}}},' for number in range(100, 160)) + "]"
    )
    assert lines_of("{subject: {user: a}, has_not: {env: [B]}}", document)[1:] == [
        "expected an image",
        "found the profiles tell apart more images than can be listed; write 'image'",
    ]
    assert verdicts_of("{subject: {user: a, image: x}, has_not: {env: [A]}}", document)[0].holds


def test_a_server_that_cannot_start_has_nothing() -> None:
    document = f"profiles: [{'{env: {A: b}},' * 501}]"
    for assertion in ("{subject: {user: a}, has: {env: [A]}}", "{subject: {user: a}, has_not: {env: [B]}}"):
        assert lines_of(assertion, document)[2:] == [
            "expected a server that can start",
            "found no server can start: more than 500 profiles match, whatever their time, "
            "and a server can have no more",
        ]


def test_profiles_of_selected_configmaps_are_called_after_them() -> None:
    team = parse_document("profiles: [{name: a, env: {A: b}}]").of_configmap("team")
    document = combine_documents(parse_document("profiles: []"), [team]).document
    assert verdicts_of("{subject: {user: a}, has: {profiles: [team/a, a]}}", document)[0].holds
    assert lines_of("{subject: {user: a}, has_not: {env: [A]}}", document)[-1] == "found variable A, from team/a"


@pytest.mark.parametrize(
    "assertion",
    [
        "{only: {groups: [forecasters]}, may_have: {secret: team-s3}}",
        "{only: {groups: [forecasters]}, may_have: {secret: projected}}",
        "{only: {groups: [forecasters]}, may_have: {secret: keys-ada}}",
        "{only: {groups: [forecasters]}, may_have: {claim: team-data}}",
        "{only: {groups: [forecasters]}, may_have: {size: Large}}",
        "{only: {groups: [forecasters], users: [edsger]}, may_have: {env: S3_KEY}}",
        "{only: {groups: [forecasters, students]}, may_have: {profile: course}}",
        "{only: {groups: [students]}, may_have: {resource: gpu}}",
        "{everyone_has: {env: TEAM}}",
        "{everyone_has: {resource: memory}}",
        "{everyone_has: {profile: globals}}",
        "{nobody_has: {secret: admin}}",
        "{nobody_has: {resource: gpu}, at: 2026-11-30}",
        "{nobody_has: {env: COURSE}, at: 2027-01-01}",
        "{nobody_has: {claim: team}}",
    ],
)
def test_what_is_so_for_everybody_holds(assertion: str) -> None:
    (verdict,) = verdicts_of(assertion)
    assert verdict.failures == ()


@pytest.mark.parametrize(
    ("assertion", "lines"),
    [
        pytest.param(
            "{only: {groups: [students], users: [ada]}, may_have: {secret: team-s3}}",
            [
                "t:1:14: fails: only members of students and ada may have secret team-s3",
                "for anybody, in forecasters, on lab/",
                "expected nobody else has secret team-s3",
                "found variable S3_KEY, from forecasting",
            ],
            id="only",
        ),
        pytest.param(
            "{only: {groups: [forecasters]}, may_have: {env: S3_KEY}}",
            [
                "t:1:14: fails: only members of forecasters may have variable S3_KEY",
                "for edsger, on x",
                "expected nobody else has variable S3_KEY",
                "found variable S3_KEY, from profiles[3]",
            ],
            id="a user",
        ),
        pytest.param(
            "{only: {users: [edsger]}, may_have: {size: Large}}",
            [
                "t:1:14: fails: only edsger may have size Large",
                "for anybody, in forecasters, on x",
                "expected nobody else has size Large",
                "found size Large",
            ],
            id="size",
        ),
        pytest.param(
            "{nobody_has: {resource: gpu}}",
            [
                "t:1:14: fails: nobody has resource nvidia.com/gpu",
                "for anybody, in students, on x, at 2026-11-30T22:00:00Z",
                "expected nobody has resource nvidia.com/gpu",
                "found limit of nvidia.com/gpu, from course",
            ],
            id="nobody",
        ),
        pytest.param(
            "{name: all, everyone_has: {env: DEBUG}}",
            [
                "t:1:14: fails: all",
                "for anybody, in forecasters, on lab/",
                "expected everyone has variable DEBUG",
                "found set otherwise by forecasting",
            ],
            id="everyone",
        ),
        pytest.param(
            "{everyone_has: {secret: team-s3}}",
            [
                "t:1:14: fails: everyone has secret team-s3",
                "for edsger, on x",
                "expected everyone has secret team-s3",
                "found set otherwise by profiles[3]",
            ],
            id="everyone a secret",
        ),
        pytest.param(
            "{everyone_has: {claim: team-data}}",
            [
                "t:1:14: fails: everyone has claim team-data",
                "for anybody, on x",
                "expected everyone has claim team-data",
                "found nothing: no profile that matches gives it",
            ],
            id="everyone a claim",
        ),
        pytest.param(
            "{only: {groups: [forecasters]}, may_have: {secret: teams-s3}}",
            [
                "t:1:14: fails: only members of forecasters may have secret teams-s3",
                "expected somebody has secret teams-s3",
                "found nobody can get it; if that is meant, write 'nobody_has'",
            ],
            id="what nobody can get",
        ),
        pytest.param(
            "{only: {groups: [forcasters]}, may_have: {profile: forecastin}}",
            [
                "t:1:14: fails: only members of forcasters may have profile forecastin",
                "expected the document names the group forcasters",
                "found no such group; did you mean forecasters?",
                "expected the document names the profile forecastin",
                "found no such profile; did you mean forecasting?",
            ],
            id="names that are not there",
        ),
        pytest.param(
            "{nobody_has: {image_choice: Lab}, at: '2026-03-29T03:30'}",
            [
                "t:1:14: fails: nobody has image Lab",
                "expected the document names the image Lab",
                "found no such image; it names none at all",
            ],
            id="no image",
        ),
        pytest.param(
            "{nobody_has: {env: COURSE}, at: '2026-03-29T03:30'}",
            [
                "t:1:14: fails: nobody has variable COURSE",
                "expected a moment that there is",
                "found 2026-03-29T03:30 does not exist in Europe/Athens, since clocks change; add an offset: "
                "2026-03-29T03:30+02:00 or 2026-03-29T03:30+03:00",
            ],
            id="a moment that clocks skip",
        ),
    ],
)
def test_what_is_not_so_for_everybody_is_told_with_an_example(assertion: str, lines: list[str]) -> None:
    assert lines_of(assertion) == lines


def test_every_profile_is_told_but_of_many_only_the_first_ten() -> None:
    several = ", ".join(f"{{name: p{number}, groups: [g{number}], env: {{A: CANARY}}}}" for number in range(12))
    lines = lines_of("{nobody_has: {env: A}}", f"profiles: [{several}]")
    assert lines[-2:] == ["found variable A, from p2", "and 2 more, which --format json shows"]
    assert [line for line in lines if line.startswith("found")] == [
        f"found variable A, from p{n}" for n in range(11, 1, -1)
    ]


def test_people_who_are_offered_images_run_these() -> None:
    assert lines_of("{nobody_has: {env: LAB}}", IMAGES)[1:] == [
        "for anybody, on lab",
        "expected nobody has variable LAB",
        "found variable LAB, from lab",
    ]
    assert lines_of("{everyone_has: {image_choice: Lab}}", IMAGES)[1:] == [
        "for anybody, on x",
        "expected everyone has image Lab",
        "found nothing: no profile that matches gives it",
    ]
    images = IMAGES.replace(", users: [ada]", "")
    assert lines_of("{nobody_has: {env: LAB}}", images)[1] == "for anybody, on the image Lab"
    assert verdicts_of("{everyone_has: {image_choice: Lab}}", images)[0].holds


THINGS = [
    *(Thing("env", name) for name in ("A", "B")),
    *(Thing("secret", name) for name in ("s1", "s2")),
    Thing("claim", "c1"),
    *(Thing("resource", name) for name in ("memory", "cpu", GPU)),
]


def write_moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def has(assessor: Assessor, person: Person, thing: Thing) -> bool | None:
    """Whether a server has a thing; None if the document does not name its groups."""
    failures = assessor.assess(SubjectAssertion(person=person, has_not=(thing,))).failures
    return None if any(failure.example is None for failure in failures) else bool(failures)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_so_for_everybody_is_so_for_each(seed: int) -> None:
    """A server that breaks an assertion does so as a subject too; if none does, neither does a random one."""
    random = Random(seed)
    pair = make_pair(random)
    document = parse(pair.old_text)
    assessor = Assessor(document, pair.order, pair.since)
    subjects = [
        Person(
            random.choice([*USERS, "cy"]),
            frozenset(random.sample(GROUPS, random.randint(0, 3))),
            random.choice(LITERALS),
            at=write_moment(random.choice([pair.since, *(at for at in INSTANTS if at > pair.since)])),
        )
        for _ in range(20)
    ]
    names = [
        *(Thing("profile", each.name) for each in document.profiles if each.name),
        *(Thing("size", each.name) for each in document.sizes if each.name),
        *(Thing("image-choice", each.name) for each in document.images if each.name),
    ]
    for thing in [*THINGS, *names]:
        everyone, nobody, only = (
            assessor.assess(EverybodyAssertion(kind=kind, thing=thing, users=users)).failures
            for kind, users in (("everyone_has", ()), ("nobody_has", ()), ("only", ("ada",)))
        )
        for failures, wanted in ((everyone, False), (nobody, True), (only, True)):
            for example in (failure.example for failure in failures):
                if example is None:
                    # Nobody at all has it.
                    assert (failures, nobody) == (only, ())
                    continue
                groups = frozenset(example.groups)
                person = Person(
                    example.user, groups, example.image, example.image_choice, example.size, write_moment(example.at)
                )
                assert has(assessor, person, thing) is wanted
                assert failures is not only or example.user != "ada"
        for person in subjects:
            found = has(assessor, person, thing)
            assert everyone or found is not False
            assert nobody or not found
            assert only or not found or person.user == "ada"
