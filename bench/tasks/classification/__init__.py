"""Tasks that choose among texts: zero-shot classification and hard negatives."""
