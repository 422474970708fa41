"""Parts of the page Ablations."""
