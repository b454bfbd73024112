"""Documents of any size, alike in everything else."""

from profiled_spawner.decide.matching import Subject

#: How many profiles fill a ConfigMap.
MOST_PROFILES = 3000


def make_document(profiles: int, *, users: int = 5, salt: str = "") -> str:
    """Writes a document of `profiles` profiles, for two images and `users` users each.

    Of all profiles, no more than ten match a subject.

    Args:
        profiles: How many.
        users: How many users each names.
        salt: What tells this document from another that is otherwise equal to it.
    """
    return f"# {salt}\nprofiles:\n" + "".join(_make_profile(number, users) for number in range(profiles))


def _make_profile(number: int, users: int) -> str:
    names = ", ".join(f"user-{(number * 7 + each * 131) % max(12_000, users * 131):05d}" for each in range(users))
    return (
        f"- name: project-{number:04d}\n"
        f"  images: ['quay.io/example/notebook-{number % 97}:3.{number % 13}', 'quay.io/example/lab-{number % 89}:*']\n"
        f"  users: [{names}]\n"
        f"  env:\n"
        f"    BUCKET: s3://datalake/project-{number:04d}/raw\n"
        f"    ENDPOINT: https://endpoint-{number:04d}.example.org\n"
        f"    PORT: {8000 + number}\n"
        f"  resources: {{mem_limit: {1 + number % 16}Gi, cpu_limit: {1 + number % 8}}}\n"
    )


def make_choices(images: int, sizes: int, *, year: int = 1970) -> str:
    """Writes a document of so many images and sizes, all with a time.

    Args:
        images: How many.
        sizes: How many. Each gives another amount of memory.
        year: In January of which they end; they begin with 1970.
    """
    gives = [f"gpu: 1, resources: {{mem_limit: {each + 1}Gi, cpu_limit: {each % 8 + 1}}}" for each in range(sizes)]
    offered = {
        "images": [_make_choice("Image", each, year, "image: nb") for each in range(images)],
        "sizes": [_make_choice("Size", each, year, given) for each, given in enumerate(gives)],
    }
    return "profiles: []\n" + "".join(f"{key}: [{', '.join(entries)}]\n" for key, entries in offered.items())


def _make_choice(noun: str, number: int, year: int, gives: str) -> str:
    dates = f"from: 1970-01-01, until: {year}-01-{number % 28 + 1:02}"
    return f"{{name: {noun} {number}, description: For the exercises of course {number}., {gives}, {dates}}}"


def make_subject(number: int) -> Subject:
    """A user, whose image is one of those that the profiles name."""
    return Subject(f"user-{number * 7 % 12_000:05d}", frozenset(), f"quay.io/example/lab-{number % 89}:1", 0)
