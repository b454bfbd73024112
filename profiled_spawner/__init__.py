"""Environment variables and limits for JupyterHub servers from a ConfigMap that is read at every start."""

__version__ = "0.1.0.dev0"

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hub.spawner import ProfiledKubeSpawner

__all__ = ["ProfiledKubeSpawner", "__version__"]


def __getattr__(name: str) -> object:
    # The command does without JupyterHub and KubeSpawner, whose import takes about a second.
    if name == "ProfiledKubeSpawner":
        from .hub.spawner import ProfiledKubeSpawner

        return ProfiledKubeSpawner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
