"""KubeSpawner's own test suite, with our class in place of KubeSpawner."""
