"""Token states of frozen encoders, computed once per corpus and mapped into memory (`train.cache`)."""
