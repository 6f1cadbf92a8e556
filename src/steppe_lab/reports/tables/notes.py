"""Sentences about a table that its rows do not tell."""

from __future__ import annotations

from collections import Counter

from steppe_lab.studies.table import StudyTable

_SHOWN = 3


def notes_on(table: StudyTable) -> list[str]:
    """Trials without a row and refused measures, with reasons, without full stops."""
    refused = [str(each) for each in table.refused]
    if not table.dropped:
        return refused
    reasons = Counter(dropped.reason for dropped in table.dropped).most_common()
    said = [f"{count:,} {reason}" for reason, count in reasons[:_SHOWN]]
    others = sum(count for _, count in reasons[_SHOWN:])
    said += [f"{others:,} for other reasons"] if others else []
    total = len(table) + len(table.dropped)
    without = f"{len(table.dropped):,} of {total:,} trials have no row"
    return [f"{without}: {'; '.join(said)}", *refused]
