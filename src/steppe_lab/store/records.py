"""Results of the library as the store has them."""

from __future__ import annotations

from typing import Any

from steppe.results import Estimate


def estimate_record(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON, but for its units, which stand with its measure, and time.

    Records of one run have the same bytes on every machine.
    """
    record = estimate.to_dict()
    del record["units"], record["seconds"]
    return record
