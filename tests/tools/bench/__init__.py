"""What `ProfiledKubeSpawner` costs, beside what other ways cost, measured in turn: ``python -m bench``."""
