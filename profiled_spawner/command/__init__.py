"""The command ``profiled-spawner``: checks and explains documents without a hub. Begin with `main`."""
