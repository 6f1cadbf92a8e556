"""The run store: a folder of records, each written whole or not at all."""
