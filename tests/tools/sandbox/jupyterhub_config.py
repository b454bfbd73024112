"""The sandbox hub's configuration.

The part under "KubeSpawner" is what any hub has that runs this spawner. The rest takes the place of a cluster's
network: everything is on loopback, each server on its pod's own address. What differs from one sandbox to the
next comes as JSON from the file that ``SANDBOX_SETTINGS`` names (see :class:`sandbox.hub.HubSettings`). A
configuration file of one's own, if there is one, is run at the end.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from jupyterhub.auth import Authenticator
from kubespawner import KubeSpawner

settings = json.loads(Path(os.environ["SANDBOX_SETTINGS"]).read_text())


class SharedPassword(Authenticator):
    """Lets anyone in, as anyone, who knows the one password.

    JupyterHub has one of its own for this, but from version 5.3 on.
    """

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        return data["username"] if data["password"] == settings["password"] else None


def profile_list(spawner: KubeSpawner) -> list[dict[str, Any]]:
    """Offer the images that the documents name now, and any other; nothing if they offer images themselves."""
    images = json.loads(Path(settings["images_file"]).read_text())
    if not images:
        return []
    override = {"kubespawner_override": {"image": "{value}"}}
    choices = {image: {"display_name": image, "kubespawner_override": {"image": image}} for image in images}
    return [
        {
            "display_name": "A server",
            "slug": "sandbox",
            "description": "Every image is this machine's Python: its name only decides which profiles match.",
            "profile_options": {
                "image": {
                    "display_name": "Image",
                    "choices": choices,
                    "unlisted_choice": {"enabled": True, "display_name": "Another image", **override},
                }
            },
        }
    ]


def run_file(path: str) -> None:
    """Run a configuration file after this one; end the hub if that fails, and say why for the sandbox to tell."""
    names = {"c": c, "get_config": get_config, "load_subconfig": load_subconfig}  # noqa: F821
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), {"__name__": "__main__", "__file__": path, **names})
    except (Exception, SystemExit) as exc:  # noqa: BLE001  whatever it is, the person must be told
        Path(settings["config_fault_file"]).write_text(describe_fault(exc, path))
        sys.exit(1)


def describe_fault(exc: BaseException, path: str) -> str:
    """Return what is wrong, with the last line of the file that was reached."""
    lines = [frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == path]
    text = str(exc)
    if isinstance(exc, SyntaxError) and exc.filename == path:
        lines, text = [exc.lineno], exc.msg
    place = f"{path}:{lines[-1]}" if lines else path
    return f"{place}: {type(exc).__name__}: {text}"


c = get_config()  # noqa: F821

# KubeSpawner
c.JupyterHub.spawner_class = settings["spawner_class"]
c.KubeSpawner.namespace = settings["namespace"]
# In a cluster this is the namespace of the hub's own pod without being said.
c.ProfiledKubeSpawner.configmap_namespace = settings["namespace"]
c.ProfiledKubeSpawner.configmap_label_selector = settings["label_selector"]
c.KubeSpawner.image = settings["image"]
c.KubeSpawner.profile_list = profile_list
# Nothing at all without a profile: the form then has only what the documents offer.
c.KubeSpawner.profile_form_template = "{% if profile_list %}{% include 'form.html' %}{% endif %}"
# Under the general name, so that a file of one's own may set them under either.
c.Spawner.default_url = "/lab"
c.Spawner.http_timeout = 60

# Loopback instead of a network
c.JupyterHub.bind_url = settings["public_url"]
c.JupyterHub.hub_bind_url = settings["hub_url"]
c.ConfigurableHTTPProxy.api_url = settings["proxy_api_url"]
c.ConfigurableHTTPProxy.command = [sys.executable, "-I", str(Path(__file__).with_name("proxy.py"))]
c.KubeSpawner.ip = "$(POD_IP)"
c.KubeSpawner.port = settings["server_port"]
POD_IP = {"POD_IP": {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}}
c.Spawner.environment = dict(POD_IP)

# Users
c.JupyterHub.authenticator_class = SharedPassword
c.Authenticator.allow_all = True
c.JupyterHub.load_groups = {name: {"users": users} for name, users in settings["groups"].items()}
c.JupyterHub.services = [{"name": "sandbox", "api_token": settings["api_token"]}]
c.JupyterHub.load_roles = [
    {
        "name": "sandbox",
        "scopes": ["admin:users", "admin:servers", "access:servers"],
        "services": ["sandbox"],
    }
]
c.JupyterHub.template_vars = {
    "announcement": "A sandbox: it isolates nothing. For trying documents only.",
    "announcement_login": "A sandbox: log in under any name, with the password that was printed.",
}

# Servers outlive a restart of the hub, as in a cluster; the proxy does not outlive the hub.
c.JupyterHub.cleanup_servers = False

for section, traits in settings["traits"].items():
    c[section].update(traits)

if settings["config_file"]:
    run_file(settings["config_file"])

# No server starts without its address, whatever other variables there are.
for section in ("Spawner", "KubeSpawner", "ProfiledKubeSpawner"):
    if isinstance(c[section].get("environment"), dict):
        c[section].environment.update(POD_IP)
