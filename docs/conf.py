"""The site: pip install -e '.[docs]' && python -m sphinx -W -b html docs docs/_build"""

import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import generated

from rcnnkit import __version__

importlib.import_module("rcnnkit.serving.application")  # autodoc reloads modules that FastAPI's models are made with

project = "rcnnkit"
author = "The rcnnkit authors"
copyright = author
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist", "dollarmath"]
nb_execution_mode = "off"  # the course runs in the tests
myst_heading_anchors = 4
default_role = "literal"  # docstrings mark code with one backtick
smartquotes = False  # quotes of settings are typed as they are shown
highlight_language = "none"  # of blocks without a language, such as columns in docstrings

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"rcnnkit {release}"
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: Any) -> None:
    app.connect("source-read", lambda _, __, source: source.__setitem__(0, generated.expand(source[0])))
    app.connect(
        "autodoc-process-docstring", lambda _, __, ___, ____, _____, lines: generated.docstring(lines), priority=400
    )
