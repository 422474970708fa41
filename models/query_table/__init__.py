"""Query vectors without a text encoder: one weight per token, from a table that is computed or learned once."""
