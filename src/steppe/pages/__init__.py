"""HTML pages that need nothing else: head, contents, styles, pictures, files."""
