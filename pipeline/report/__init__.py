"""What the report shows: sentences, tables, charts."""
