"""Names of the formats of tables; importable without torch."""

from typing import Literal

Format = Literal["parquet", "csv", "json", "jsonl", "pkl"]

# Endings of names that say the format.
ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".pkl": "pkl",
    ".pickle": "pkl",
}
