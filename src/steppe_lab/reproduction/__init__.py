"""Published claims, the runs that test them, and the verdicts on them."""
