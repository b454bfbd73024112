"""The command ``profiled-spawner``: what people ask of a document, without a hub. Begin with `main`."""
