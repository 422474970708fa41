"""Two models searched together: fusion of their results, cascades, and the controls they are judged by."""
