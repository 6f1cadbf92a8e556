"""`python -m docs.generator`: write the pages, and delete those of methods gone.

Imports of new methods are added to the packages that offer them.
"""

from __future__ import annotations

from docs.generator.exports import exports
from docs.generator.pages import CHOICE, FOLDER, pages, with_costs

wanted = pages()
for old in FOLDER.rglob("*.md"):
    if str(old.relative_to(FOLDER)) not in wanted:
        old.unlink()
for name, text in wanted.items():
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
CHOICE.write_text(with_costs(CHOICE.read_text()))
for package, text in exports().items():
    package.write_text(text)
