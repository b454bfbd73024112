"""Sets environment variables and limits of JupyterHub servers, from a ConfigMap that is read at every start.

`__all__` is the public Python API; the reference lists it, with the other public interfaces.
"""

__version__ = "0.1.0.dev0"

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hub.spawner import ProfiledKubeSpawner

__all__ = ["ProfiledKubeSpawner", "__version__"]


def __getattr__(name: str) -> object:
    # Import the spawner on first use: JupyterHub and KubeSpawner take about a second, and the command needs neither.
    if name == "ProfiledKubeSpawner":
        from .hub.spawner import ProfiledKubeSpawner

        return ProfiledKubeSpawner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
