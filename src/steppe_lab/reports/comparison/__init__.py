"""Reports of a comparison of optimizers: tables, sentences, pictures, one page."""
