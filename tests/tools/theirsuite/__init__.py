"""KubeSpawner's own test suite, with our class in place of KubeSpawner."""

FILE = "SUITE_PROFILES_FILE"
"""The environment variable that names the document; without it, the suite tests the stock class."""
