"""Settings of the site: `sphinx-build -W --keep-going -b html docs build/docs`.

Pages are written for GitHub: their links are relative and go to files. What a link reaches outside
of this directory, or here without being a page, becomes a download on the site.
"""

import ltssl_jax

project = "ltssl_jax"
version = release = ltssl_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["serving"]  # files to be copied
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = html_copy_source = False

# Docstrings are Google's; `single backticks` in them are code, as in Markdown.
default_role = "literal"
napoleon_use_ivar = True  # attributes are described once
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
