"""The embedded corpus: scenes are drawn, rendered, captioned and checked for truth from a data pack."""
