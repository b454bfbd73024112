"""A checkout of the chart, made fit for Helm."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.version import Version

__all__ = ["Chart", "ChartUnavailableError", "find_checkout", "find_release_before"]


class ChartUnavailableError(Exception):
    """There is no checkout; the text says how to name one."""


def find_checkout() -> Path:
    """Find the checkout of jupyterhub/zero-to-jupyterhub-k8s.

    Raises:
        ChartUnavailableError: ``CHART_CHECKOUT`` names none.
    """
    given = os.environ.get("CHART_CHECKOUT")
    if not given:
        raise ChartUnavailableError("CHART_CHECKOUT names no checkout of jupyterhub/zero-to-jupyterhub-k8s")
    checkout = Path(given)
    if not (checkout / "jupyterhub" / "Chart.yaml").is_file():
        raise ChartUnavailableError(f"CHART_CHECKOUT is {given}, which has no jupyterhub/Chart.yaml")
    return checkout


@dataclass(frozen=True)
class Chart:
    """A chart that Helm takes.

    Attributes:
        directory: The chart.
        version: Its version, such as ``4.4.0``.
        hub_requirements: The packages that are in the hub's image, each with its version.
        proxy_version: The version of configurable-http-proxy.
    """

    directory: Path
    version: str
    hub_requirements: Path
    proxy_version: str

    @classmethod
    def from_checkout(cls, checkout: Path, directory: Path) -> Chart:
        """Copy a chart, with its placeholders filled and its schema made, as its own tools do for a release.

        Args:
            checkout: As `find_checkout` returns it.
            directory: Where the chart goes; it must not exist.
        """
        released = yaml.safe_load((checkout / "chartpress.yaml").read_text())["charts"][0]["baseVersion"]
        shutil.copytree(checkout / "jupyterhub", directory)
        for name, placeholder in (("Chart.yaml", "0.0.1-set.by.chartpress"), ("values.yaml", "set-by-chartpress")):
            text = (directory / name).read_text()
            assert placeholder in text
            (directory / name).write_text(text.replace(placeholder, released))
        schema = yaml.safe_load((directory / "values.schema.yaml").read_text())
        (directory / "values.schema.json").write_text(json.dumps(schema))
        values = yaml.safe_load((directory / "values.yaml").read_text())
        return cls(
            directory, released, checkout / "images/hub/requirements.txt", str(values["proxy"]["chp"]["image"]["tag"])
        )


def find_release_before(checkout: Path, directory: Path) -> Path | None:
    """Check out the release before a checkout's version, as far as its repository has one.

    Args:
        checkout: As `find_checkout` returns it.
        directory: Where the release goes.
    """
    current = Version(yaml.safe_load((checkout / "chartpress.yaml").read_text())["charts"][0]["baseVersion"])
    listed = subprocess.run(["git", "-C", checkout, "tag"], check=False, capture_output=True, text=True).stdout.split()
    releases = [tag for tag in listed if re.fullmatch(r"\d+\.\d+\.\d+", tag) and Version(tag) < current]
    if not releases:
        return None
    directory.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "-C", checkout, "archive", max(releases, key=Version)], check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "--extract", "--directory", directory], input=archive, check=True)
    return directory
