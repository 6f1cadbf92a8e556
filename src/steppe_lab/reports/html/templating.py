"""Templates of pages: every value is escaped, and a missing one is an error."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup


def template(name: str) -> Template:
    """A template of the folder beside this file."""
    return _templates().get_template(name)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("steppe_lab.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _breakable, "soft": _soft}
    script = _script(environment)
    environment.globals |= {"script": script, "script_hash": _hash(script)}
    return environment


def _soft(name: str) -> str:
    """A label that may go on in a new line, where there can be no element."""
    return re.sub("([:,])", "\\1\u200b", name)


def _script(environment: Environment) -> Markup:
    """The script of all pages, which is ours, so that nothing in it is escaped."""
    from markupsafe import Markup

    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, "page.js")[0])


def _hash(script: str) -> str:
    """The hash that lets this script run on a page, and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _breakable(name: str) -> Markup:
    """A label that may go on in a new line between its settings."""
    from markupsafe import Markup, escape

    return Markup(re.sub("([:,])", r"\1<wbr>", str(escape(name))))
