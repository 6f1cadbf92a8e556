"""Tables of studies in files of other programs, and queried by SQL."""
