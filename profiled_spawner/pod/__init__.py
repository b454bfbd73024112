"""Puts the merged profiles into a pod: in goes KubeSpawner's pod, out comes the pod to create, which prints no values.

The package is independent of where the profiles come from. Begin with `patch`.
"""
