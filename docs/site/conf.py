"""The settings of the site that `make docs` builds with Sphinx from the documents of this tree."""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "mcr"
html_title = "mcr"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The pages stay where GitHub shows them, so that their links work in both places.
root_doc = "docs/site/index"
include_patterns = ["*.md", "bench/README.md", "docs/**"]
exclude_patterns = [
    ".*",
    "bpf",
    "examples",
    "findings",
    "python",
    "rust",
    "target",
    "tests",
]
html_extra_path = ["index.html"]

# Headings are linked by the names that GitHub gives them.
myst_heading_anchors = 4
highlight_language = "text"

# Docstrings name what they mention in single backquotes.
default_role = "py:obj"
autoclass_content = "both"
autodoc_member_order = "bysource"


def setup(app: Sphinx) -> None:
    """Show requests and answers as they are: with arrows before them they are not quite JSON."""
    app.add_lexer("jsonl", TextLexer)
