"""The page of one checkpoint that was examined."""
