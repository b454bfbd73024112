"""A pod and what its owner gets in; the pod that is sent to Kubernetes out, and what others may see of it: no values.

It does not know where the profiles came from. Begin with `patch`.
"""
