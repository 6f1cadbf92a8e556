"""Results of experiments as tables, records and one page."""
