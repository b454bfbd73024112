"""What JupyterHub loads: `ProfiledKubeSpawner`, a plugin that connects the other packages with KubeSpawner.

Only this package, and the command that renders a pod, import JupyterHub and KubeSpawner. Begin with `spawner`.
"""
