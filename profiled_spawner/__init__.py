"""Environment variables and limits for JupyterHub servers from a ConfigMap that is read at every start."""

__version__ = "0.1.0.dev0"
