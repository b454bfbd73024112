"""The sandbox's one image: this Python, under whatever name a pod asks for.

A container's environment is what the pod says on top of what the image brings. Here is all that the sandbox's
image brings; where a pod sets the same variable, the pod's value is the one that counts, as with any image.
"""

import json
import os
import sys
import sysconfig
from pathlib import Path

#: What is run when the pod names neither ``command`` nor ``args``, as KubeSpawner's do without ``cmd``.
COMMAND = (
    "jupyterhub-singleuser",
    # Without a list of extensions from the internet.
    "--LabApp.extension_manager=readonly",
    # The server refuses to run as root otherwise, which a container's or a CI's user often is.
    *(["--ServerApp.allow_root=True"] if os.geteuid() == 0 else []),
)

# What asks, in a pop-up, whether to fetch news and look for updates.
_DISABLED_EXTENSIONS = {"@jupyterlab/apputils-extension:announcements": True}
_TEMPORARY_DIRECTORY = ".tmp"


def environment(home: Path) -> dict[str, str]:
    """Return the variables that the image sets.

    Args:
        home: The container's home directory.
    """
    return {
        "PATH": f"{sysconfig.get_path('scripts')}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home / _TEMPORARY_DIRECTORY),
    }


def furnish(home: Path) -> None:
    """Make a home directory with the files that the image has there.

    Args:
        home: A directory of the container's own, which stands in for its file system.
    """
    # A container has a /tmp of its own.
    (home / _TEMPORARY_DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
    page_config = home / ".jupyter" / "labconfig" / "page_config.json"
    page_config.parent.mkdir(parents=True, exist_ok=True)
    page_config.write_text(json.dumps({"disabledExtensions": _DISABLED_EXTENSIONS}))
