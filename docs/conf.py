"""Sphinx: python -m sphinx -W -b html docs docs/_build/html. Nothing is fetched from anywhere."""

from importlib.metadata import version as installed

project = "seqaug"
author = "The seqaug authors"
copyright = "The seqaug authors"
version = release = installed("seqaug")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "short_examples"]
default_role = "code"

html_theme = "furo"
html_title = f"seqaug {release}"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "Source"), ("Shape", "params_style")]

sphinx_gallery_conf = {
    "examples_dirs": "short_examples",
    "gallery_dirs": "gallery",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,  # they change from build to build
}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
