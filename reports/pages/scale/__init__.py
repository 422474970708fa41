"""Parts of the page Scale."""
