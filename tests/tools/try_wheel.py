"""Installs a wheel into an environment of its own and tries what it promises.

Run as ``python tests/tools/try_wheel.py dist/….whl tests/tools/locks/runtime.txt``, with any
Python that the wheel is for.
"""

from __future__ import annotations

import argparse
import email
import os
import re
import subprocess
import tempfile
import venv
import zipfile
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "seed.yaml"

ENTRY_POINT = """
from importlib.metadata import entry_points, version
(entry_point,) = entry_points(group="jupyterhub.spawners", name="profiled-kubespawner")
spawner_class = entry_point.load()
from kubespawner import KubeSpawner
assert issubclass(spawner_class, KubeSpawner)
import profiled_spawner
assert version("jupyterhub-profiled-spawner") == profiled_spawner.__version__
assert "site-packages" in profiled_spawner.__file__
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("lock", type=Path, help="the lock file of its dependencies")
    arguments = parser.parse_args()
    wheel = arguments.wheel.resolve()
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    foreign = [name for name in names if not name.startswith(("profiled_spawner/", "jupyterhub_profiled_spawner-"))]
    assert not foreign, f"in the wheel and not of the package: {foreign}"
    assert "profiled_spawner/py.typed" in names
    (metadata,) = (email.message_from_bytes(archive.read(name)) for name in names if name.endswith("/METADATA"))
    relative = re.findall(r"\]\((?!https?:|#)([^)]*)", metadata.get_payload())
    assert not relative, f"links of the README that lead nowhere on PyPI: {relative}"
    unfinished = [url for url in metadata.get_all("Project-URL", []) if "OWNER" in url]
    assert ".dev" in metadata["Version"] or not unfinished, f"for the owner to fill in: {unfinished}"
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        bin_directory = Path(directory) / "bin"

        def run(*command: str) -> str:
            # Elsewhere, so that nothing of the checkout is found.
            done = subprocess.run(
                [str(bin_directory / command[0]), *command[1:]],
                cwd=directory,
                env={"PATH": str(bin_directory)} | _network_settings(),
                check=False,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
            return done.stdout

        # Compiled is what is imported, when it is: all the rest takes longer than the tries.
        locked = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(arguments.lock.resolve())]
        run("pip", "install", "--quiet", "--no-compile", *locked)
        run("pip", "install", "--quiet", "--no-deps", str(wheel))
        # What the wheel demands is what the lock has brought.
        run("pip", "check")
        run("python", "-c", ENTRY_POINT)
        print(run("profiled-spawner", "validate", str(EXAMPLE)), end="")
        who = ["--user", "vpavlin", "--image", "s2i-thoth-notebook:3.6"]
        print(run("profiled-spawner", "explain", str(EXAMPLE), *who), end="")
        assert "THOTH_CEPH_BUCKET" in run("profiled-spawner", "render", str(EXAMPLE), *who)
        run("python", "-m", "profiled_spawner", "schema")
    print(f"{wheel.name} is good with {arguments.lock}")


def _network_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HOME", "SSL_"))}


if __name__ == "__main__":
    main()
