"""HTML shared by all pages: templates, styles, embedded pictures."""
