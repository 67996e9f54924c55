"""One module per dataset: from raw files, or none, to items and pairs."""
