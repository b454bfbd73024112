"""Makes a server's pod manifest with `ProfiledKubeSpawner`, without a running hub and without a cluster.

It prepares a spawner as a hub does, with JupyterHub's own classes: a user with groups in an in-memory database, the
configuration, a server, group overrides. It contacts nothing and reads no kubeconfig. It runs no hook and no
`profile_list`, and has no authenticator.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.objects import Server
from jupyterhub.user import User
from jupyterhub.utils import url_escape_path, url_path_join
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from ..decide.choices import Choice
from ..decide.matching import Subject
from ..errors import PodError, ProfiledSpawnerError
from ..hub.kubespawner import no_kubeconfig
from ..hub.spawner import ProfiledKubeSpawner
from ..sources.cache import Snapshot
from .terminal import printable

__all__ = ["RenderingError", "render_pod"]

_MASK = "***"
# A placeholder for the API token, which the hub generates at each start.
_TOKEN = "(generated at each start)"

# The hub's settings that jupyterhub.user.User passes on to a spawner.
_HUB_SETTINGS = (
    "admin_access",
    "base_url",
    "config",
    "cookie_host_prefix_enabled",
    "domain",
    "hub",
    "internal_certs_location",
    "internal_ssl",
    "internal_trust_bundles",
    "subdomain_hook",
    "subdomain_host",
    "trusted_alt_names",
)

_TRAIT = re.compile(r"The ('\w+') trait of ")


class RenderingError(ProfiledSpawnerError):
    """The hub's configuration raised an error, or no manifest can be made with it."""


async def render_pod(
    snapshot: Snapshot,
    subject: Subject,
    *,
    choice: Choice = Choice(),  # noqa: B008  it is frozen
    server: str = "",
    config_file: Path | None = None,
    show_values: bool = False,
) -> dict[str, Any]:
    """Makes the pod manifest of a server, as the hub would send it to Kubernetes.

    Args:
        snapshot: The profiles and where they come from.
        subject: The user, and the image to run.
        choice: What was chosen for the server.
        server: The name of a named server; empty for the default server.
        config_file: A ``jupyterhub_config.py``. Its code is run, as a hub does.
        show_values: Show the values of environment variables; otherwise they are ``***``.

    Returns:
        The manifest as JSON types.

    Raises:
        PodError: The profiles' settings conflict with each other or with the configuration's.
        RenderingError: The configuration raised an error, or no manifest can be made with it. Messages of exceptions
            that are not this package's own may quote values: they are included only with `show_values`.
    """
    # The standard output is for the manifest alone; a configuration may print too.
    with contextlib.redirect_stdout(sys.stderr), _warnings_logged(), no_kubeconfig():
        try:
            pod = await _make_pod(snapshot, subject, choice, server, _load_config(config_file))
        except (Exception, SystemExit) as error:  # noqa: BLE001  a configuration is code that may raise anything
            failure = (
                error.with_traceback(None)
                if isinstance(error, RenderingError | PodError)
                else RenderingError(_explain(error, config_file, show_values))
            )
        else:
            return pod if show_values else _mask_env(pod)
    # Raise outside the handler: otherwise the configuration's own error would be in the traceback.
    raise failure


def _load_config(config_file: Path | None) -> Config:
    if config_file is None:
        return Config()
    if not config_file.is_file():
        raise RenderingError(f"there is no file {config_file}")
    config: Config = PyFileConfigLoader(str(config_file.absolute())).load_config()
    return config


async def _make_pod(
    snapshot: Snapshot, subject: Subject, choice: Choice, server: str, config: Config
) -> dict[str, Any]:
    # Neither affects a manifest, and their packages may not be installed here.
    for unused in ("authenticator_class", "proxy_class"):
        config.JupyterHub.pop(unused, None)
    hub = JupyterHub(config=config, log=logging.getLogger("jupyterhub"))
    hub.init_hub()
    settings = {name: getattr(hub, name) for name in _HUB_SETTINGS}
    settings["public_url"] = urlparse(hub.public_url) if hub.public_url else ""
    settings["spawner_class"] = (
        hub.spawner_class if issubclass(hub.spawner_class, ProfiledKubeSpawner) else ProfiledKubeSpawner
    )
    # As in the hub, tornado_settings override the others. They hold the cookie options.
    settings |= hub.tornado_settings

    with _database() as database:
        orm_user = orm.User(name=subject.user, groups=[orm.Group(name=name) for name in sorted(subject.groups)])
        database.add(orm_user)
        if server:
            database.add(orm.Spawner(name=server, user=orm_user))
        database.commit()
        user = User(orm_user, settings)
        spawner = user.spawners[server]
        try:
            # From here on it follows User.spawn, without the parts that do not affect a manifest.
            orm_server = orm.Server(base_url=url_path_join(user.base_url, url_escape_path(server), "/"))
            database.add(orm_server)
            database.commit()
            spawner.server = Server(orm_server=orm_server)
            spawner.api_token = _TOKEN
            spawner.admin_access = settings["admin_access"]
            # JupyterHub 5.0 has no group_overrides.
            if hasattr(spawner, "apply_group_overrides"):
                await spawner.apply_group_overrides()
            spawner.image = subject.image
            # Show what the server would get, even if the configuration sets observe_only.
            spawner.observe_only = False
            spawner.snapshot, spawner._choice, spawner._began = snapshot, choice, subject.at
            # Report the error to the caller, instead of logging it and refusing a start.
            spawner._refuse_pod = lambda error: error
            pod = await spawner.get_pod_manifest()
            manifest: dict[str, Any] = spawner.api.api_client.sanitize_for_serialization(pod)
        finally:
            await spawner.api.api_client.close()
    return manifest


@contextlib.contextmanager
def _database() -> Iterator[Session]:
    """JupyterHub's database in memory. JupyterHub's own function would run migrations, and log them."""
    engine = create_engine("sqlite://")
    try:
        orm.Base.metadata.create_all(engine)
        with Session(engine) as database:
            yield database
    finally:
        engine.dispose()


class _Formatter(logging.Formatter):
    """Escapes control characters in messages."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        return printable(super().formatMessage(record))


@contextlib.contextmanager
def _warnings_logged() -> Iterator[None]:
    """Logs warnings and errors to the standard error, and nothing below."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_Formatter("profiled-spawner: %(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _mask_env(pod: dict[str, Any]) -> dict[str, Any]:
    spec = pod["spec"]
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            for variable in container.get("env") or ():
                if "value" in variable:
                    variable["value"] = _MASK
    return pod


def _explain(error: BaseException, config_file: Path | None, show_values: bool) -> str:
    """Explains an error in one sentence, with the line of the configuration that caused it."""
    kind = type(error).__name__
    trait = _TRAIT.match(str(error)) if isinstance(error, TraitError) else None
    if isinstance(error, SyntaxError):
        what = f"{kind}: {error.msg}"
    elif isinstance(error, OSError) and error.strerror:
        what = f"{kind}: {error.strerror}" + (f": {error.filename}" if error.filename else "")
    elif show_values or isinstance(error, ImportError | NameError | ProfiledSpawnerError):
        what = f"{kind}: {' '.join(str(error).split())}"
    else:
        what = f"{kind}: {trait[1]} cannot have this value" if trait else kind
        what += " (the message may contain values; --show-values shows it)"
    return printable(f"{_find_place(error, config_file)}: {what}")


def _find_place(error: BaseException, config_file: Path | None) -> str:
    path = str(config_file.absolute()) if config_file else None
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines.append(error.lineno)
    if lines:
        return f"{config_file}:{lines[-1]}"
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    places = [f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}" for frame in frames]
    hosts = [place for place in places if place.startswith(("jupyterhub.", "kubespawner."))]
    where = f" ({hosts[-1]})" if hosts else ""
    return f"cannot make the pod{f' with {config_file}' if config_file else ''}{where}"
