"""A Kubernetes control plane of the tests' own: a real etcd and a real kube-apiserver, on the loopback interface."""
