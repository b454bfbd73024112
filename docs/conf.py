"""The site's configuration: https://www.sphinx-doc.org/en/master/usage/configuration.html."""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import profiled_spawner
from profiled_spawner import ProfiledKubeSpawner

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "extensions"))
# `{program-output}` runs the command of this environment, as wide as a page, without colours.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ |= {"COLUMNS": "88", "NO_COLOR": "1"}

project = "JupyterHub Profiled Spawner"
author = "The jupyterhub-profiled-spawner developers"
copyright = author  # noqa: A001  Sphinx' name for it
version = release = profiled_spawner.__version__

extensions = [
    "autodoc_traits",
    "column_labels",
    "document_format",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.programoutput",
]

myst_enable_extensions = ["colon_fence"]
# The page on costs holds these tables itself.
exclude_patterns = ["costs/tables.md"]
# Every heading can be linked to, as on GitHub.
myst_heading_anchors = 3

copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

# The help of traits is written for the hub's own --help-all, where single backticks are code.
default_role = "code"
nitpicky = True
# The host's classes have no pages here.
nitpick_ignore_regex = [("py:class", r"kubespawner\..*")]

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
# It would list ten settings, which have a page of their own.
html_use_index = False
html_theme_options = {
    # The whole name, and more links, would take a second row on a tablet.
    "logo": {"text": "Profiled Spawner"},
    "header_links_before_dropdown": 4,
    "github_url": tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["urls"]["Source"],
    "navigation_with_keys": False,
    # In the theme's own, comments have the colour of values.
    "pygments_dark_style": "github-dark",
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
}
# Only these have pages below them to navigate.
_NAVIGATION = ["sidebar-collapse", "sidebar-nav-bs"]
html_sidebars = {"*": [], **dict.fromkeys(("contributing", "glossary", "reference"), _NAVIGATION)}


def skip_inherited(_app: Sphinx, _what: str, name: str, _value: Any, _skip: bool, _options: Any) -> bool:
    """Leaves out KubeSpawner's own traits, which autodoc_traits would show too, and every method."""
    return name not in ProfiledKubeSpawner.class_own_traits(config=True)


def setup(app: Sphinx) -> None:
    """Connects what no setting can say."""
    app.connect("autodoc-skip-member", skip_inherited)
