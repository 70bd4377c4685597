"""Files of rows: read, classified in batches, written whole or taken up again."""

__all__ = [
    "arrow",
    "classify",
    "columns",
    "parquet",
    "readers",
    "record",
    "resume_file",
    "row",
    "tables",
    "text_columns",
    "writers",
]
