"""Sphinx's configuration: ``nox -s docs`` builds."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "tinyxp"
author = "the tinyxp developers"
project_copyright = "2026, the tinyxp developers"
release = version = installed_version("tinyxp")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes and dtypes, which say more
napoleon_google_docstring = False
napoleon_use_param = False  # types in docstrings are prose ("array, shape (n,)"), not names to link
napoleon_use_rtype = False
nitpick_ignore_regex = [(r"py:class", r"(?!tinyxp\.).*")]  # so too the types of attributes
default_role = "literal"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"tinyxp {release}"
