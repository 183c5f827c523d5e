"""What mkdocs does not do by itself for our site: mkdocs.yml names this file."""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from scripts import proto_reference

API = "reference/api.md"
# In the repository these links show the file; on the site, what its comments say.
PROTO_LINK = re.compile(r"\]\((?:\.\./)+protos/explain/v1/(\w+)\.proto\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page that is made of the .proto files."""
    files.append(File.generated(config, API, content=proto_reference.page()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links to .proto files to that page."""
    return PROTO_LINK.sub(rf"]({get_relative_url(API, page.file.src_uri)}#\1)", markdown)
