"""Could an exact search skip blocks of documents? Bounds of blocks, and orders of documents that tighten them."""
