"""Published files, fetched where somebody asks for them and never otherwise."""
