"""Tables, figures and images in the formats of pages and files. Knows no record."""
