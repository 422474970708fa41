"""Generated vectors, fitted to the statistics of encoded ones."""
