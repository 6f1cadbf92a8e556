"""Templates of pages: every value is escaped, and a missing one is an error."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING

from steppe.errors import SettingError, install

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup

HOME = "steppe.pages"


def template(name: str, package: str = HOME) -> Template:
    """A template of a package, which may extend and import those of this one.

    Args:
        name: of the file.
        package: whose folder `templates` it is in.

    Raises:
        SettingError: jinja2 is not installed.
    """
    return _templates(package).get_template(name)


def source_of(name: str, package: str = HOME) -> str:
    """The text of a file in the folder `templates` of a package, as it stands there.

    Args:
        name: of the file.
        package: of this project.
    """
    loader = _templates(package).loader
    assert loader is not None
    return loader.get_source(_templates(package), name)[0]


@cache
def _templates(package: str) -> Environment:
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise SettingError(
            f"pages are written with jinja2, which is not installed; {install('viz')}."
        ) from error

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(HOME)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": _breakable,
        "coded": _coded,
        "soft": _soft,
    }
    script = _script(environment)
    environment.globals |= {"script": script, "script_hash": hash_of(script)}
    return environment


def _soft(name: str) -> str:
    """A label that may go on in a new line, where there can be no element."""
    return re.sub("([:,])", "\\1\u200b", name)


def _script(environment: Environment) -> Markup:
    """The script of all pages, which is ours, so that nothing in it is escaped."""
    from markupsafe import Markup

    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, "page.js")[0])


def hash_of(script: str) -> str:
    """The hash that lets this script run on a page, and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _coded(sentence: str) -> Markup:
    """A sentence whose words between backticks are code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))


def _breakable(name: str) -> Markup:
    """A label that may go on in a new line between its settings and its words."""
    from markupsafe import Markup, escape

    return Markup(re.sub("([:,/])", r"\1<wbr>", str(escape(name))))
