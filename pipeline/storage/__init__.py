"""What lies on disk: tables, shards, raw files, and the hashes that they are held to."""
