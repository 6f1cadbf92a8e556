"""A file within a page: its content is the address of a link."""

from __future__ import annotations

import base64
from dataclasses import dataclass

_KINDS = {"csv": "text/csv", "json": "application/json", "tex": "application/x-tex"}


@dataclass(frozen=True)
class Attachment:
    """A file that a page holds and gives away by a link."""

    name: str  # of the file
    text: str  # of the link
    what: str  # it contains, after "It holds the"
    address: str  # holds the content itself
    beside: bool = True  # the same file lies beside the page


def attached(
    name: str, content: str, *, text: str, what: str, beside: bool = True
) -> Attachment:
    """A text file within a page.

    Args:
        name: of the file, whose end says its kind: csv, json or tex.
        content: of the file.
        text: of the link to it.
        what: it contains, as "rows of the table".
        beside: the same file lies beside the page.
    """
    kind = _KINDS[name.rpartition(".")[2]]
    return Attachment(name, text, what, data_uri(content, kind), beside)


def data_uri(content: str, kind: str) -> str:
    """An address that is the content itself.

    Args:
        content: text.
        kind: its media type.
    """
    encoded = base64.b64encode(content.encode()).decode()
    return f"data:{kind};charset=utf-8;base64,{encoded}"
