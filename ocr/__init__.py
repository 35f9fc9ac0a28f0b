"""Reading Indonesian identity cards (KTP): upload, reading, checks and review."""
