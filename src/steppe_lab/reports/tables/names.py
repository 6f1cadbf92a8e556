"""Names of the formats of tables; importable without torch."""

from typing import Literal

Format = Literal["parquet", "csv", "json", "pkl"]

# Endings of names that say the format.
ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".pkl": "pkl",
    ".pickle": "pkl",
}
