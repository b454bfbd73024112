"""A Kubernetes of one process, for tests and demonstrations: an API server, a kubelet, and a hub on top of them."""
