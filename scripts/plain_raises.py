"""An extension of griffe, which reads our docstrings for the site: names of errors without descriptions are a sentence.

Our methods all raise the same few errors, so many docstrings only name them under `Raises:`; griffe wants a
description of each.
"""

import re
from typing import Any

from griffe import Extension, Object

NAMES_ONLY = re.compile(r"Raises:\n\s+([^:\n]+\.)\s*$")


class PlainRaises(Extension):
    """What mkdocs.yml names."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Turn such a section at the end of a docstring into a paragraph."""
        if obj.docstring is not None:
            obj.docstring.value = NAMES_ONLY.sub(r"Raises \1", obj.docstring.value)
