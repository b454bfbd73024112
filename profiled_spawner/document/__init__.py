"""Text in; a `Document` out, or every error with its place and its fix.

It knows YAML, the document's format, and what Kubernetes accepts. It knows nothing of files, ConfigMaps, people, pods,
JupyterHub or a Kubernetes client, and it does no I/O. Begin with `parser`.
"""
