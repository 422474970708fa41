"""Exports of checkpoints for other runtimes: ONNX, and the text side as a SparseEncoder of sentence-transformers."""
