"""Files of rows: read, classified in batches, written whole or taken up again."""
