"""Two objectives on the same data, compared sample by sample and draw by draw."""
