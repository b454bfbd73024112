"""What is in the images of the hub and the proxy, without images: their packages, in directories of a cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from chart.checkout import Chart, ChartUnavailableError

__all__ = ["Images", "install"]

# The hub's image brings it for PostgreSQL alone, and it is built from C.
_LEFT_OUT = "psycopg2"


@dataclass(frozen=True)
class Images:
    """The directories of programs that stand for images, by the last part of the images' names and their tags."""

    programs: dict[str, Path]

    def find(self, image: str) -> Path:
        """Return the programs of an image.

        Raises:
            LookupError: Nothing here stands for it.
        """
        name = image.rpartition("/")[2]
        if name not in self.programs:
            raise LookupError(f"nothing here stands for the image {image}")
        return self.programs[name]

    def __or__(self, other: Images) -> Images:
        return Images(self.programs | other.programs)


def install(chart: Chart) -> Images:
    """Install what the images of a chart have in them, once for each content.

    Raises:
        ChartUnavailableError: There is no npm.
        subprocess.CalledProcessError: Something could not be installed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ChartUnavailableError("npm is needed for the chart's proxy")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jupyterhub-profiled-spawner"
    listed = re.sub(rf"^{_LEFT_OUT}==.*\n", "", chart.hub_requirements.read_text(), flags=re.MULTILINE)
    digest = hashlib.sha256(f"{sys.version}{listed}".encode()).hexdigest()[:12]
    hub, proxy = cache / f"hub-image-{digest}", cache / f"proxy-image-{chart.proxy_version}"
    if not (hub / "done").exists():
        print(f"\nInstalling the packages of the hub's image into {hub}.", flush=True)
        _run(sys.executable, "-m", "venv", "--clear", hub)
        (hub / "requirements.txt").write_text(listed)
        _run(hub / "bin/python", "-m", "pip", "install", "--quiet", "--requirement", hub / "requirements.txt")
        (hub / "done").touch()
    if not (proxy / "done").exists():
        proxy.mkdir(parents=True, exist_ok=True)
        package = f"configurable-http-proxy@{chart.proxy_version}"
        _run(npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", proxy, package)
        (proxy / "done").touch()
    return Images(
        {
            f"k8s-hub:{chart.version}": hub / "bin",
            f"configurable-http-proxy:{chart.proxy_version}": proxy / "node_modules/.bin",
        }
    )


def _run(*command: str | Path) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([str(part) for part in command], env=environment, check=True)
