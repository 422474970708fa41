"""Parts of the page Efficiency."""
