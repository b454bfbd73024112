"""What JupyterHub loads: `ProfiledKubeSpawner`, a plugin that joins the other packages to KubeSpawner.

Only this package, and the command that renders a pod, import JupyterHub and KubeSpawner. Begin with `spawner`.
"""
