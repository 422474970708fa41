"""Train every variant of LexLIP, and the CLIP baseline, the same way; measure each; write records."""
