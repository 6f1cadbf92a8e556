"""Everything about one minimum at a glance: numbers, warnings, one page."""
