"""The Zero to JupyterHub chart, from a checkout, on a cluster of the tests' own.

Helm installs the chart as it is (`checkout`); the hub and the proxy run as the chart starts them (`kubelet`), with what
their images have in them (`image`); users' pods are KWOK's.
"""
