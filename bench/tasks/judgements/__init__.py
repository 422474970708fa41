"""Graded judgements: how well the score of an image and a caption agrees with people's grades of the pair."""
