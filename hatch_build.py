"""Makes the README that PyPI shows: its links lead into the repository, whose address stands in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ReadmeHook(MetadataHookInterface):
    """Gives the project's metadata its readme."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text()
        metadata["readme"] = {"content-type": "text/markdown", "text": with_absolute_links(text, metadata)}


def with_absolute_links(text: str, metadata: dict[str, Any]) -> str:
    """Returns Markdown whose relative links lead to the project's `Source`: to pages of GitHub, and to pictures.

    Raises:
        KeyError: If `[project.urls]` has no `Source`.
    """
    source = metadata["urls"]["Source"]
    text = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\g<1>{source}/raw/main/", text)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\g<1>{source}/blob/main/", text)
