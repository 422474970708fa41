"""Dense vectors on disk made sparse: training, vectors, exports and a report (`lexlip-bench sparsify`)."""
