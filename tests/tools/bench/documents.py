"""Documents of any size, alike in everything else."""

from profiled_spawner.decide.matching import Subject

#: How many profiles fill a ConfigMap.
MOST_PROFILES = 3000


def make_document(profiles: int, *, users: int = 5, salt: str = "") -> str:
    """Writes a document of `profiles` profiles, for two images and `users` users each.

    Of all profiles, `subject` fits no more than ten.

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


def make_choices(number: int) -> str:
    """Writes a document of so many images and sizes together, as many of each, which end within a month."""
    images, sizes = (
        "".join(
            f"- {{name: {noun} {each}, description: For the exercises of course {each}., {gives}, until: {date}}}\n"
            for each in range(number // 2)
            for date in [f"1970-01-{each % 28 + 1:02}"]
        )
        for noun, gives in (("Image", "image: nb"), ("Size", "gpu: 1, resources: {mem_limit: 8Gi, cpu_limit: 2}"))
    )
    return f"profiles: []\nimages:\n{images}sizes:\n{sizes}"


def make_subject(number: int) -> Subject:
    """A user, whose image is one of those that the profiles name."""
    return Subject(f"user-{number * 7 % 12_000:05d}", frozenset(), f"quay.io/example/lab-{number % 89}:1", 0)
