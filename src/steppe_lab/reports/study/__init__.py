"""The report of a study: statistics of its measures, figures, page."""
