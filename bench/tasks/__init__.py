"""What is measured of a model: recall, classification, sparsity, disagreement, lexicon views, export."""
