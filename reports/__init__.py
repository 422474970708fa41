"""Tables, figures, significance and pages, made from records alone. Knows no model, no engine and no training.

Array names carry their shape as a suffix:

    R resamples    S seeds    G groups (a group is an image; its captions are resampled together)
"""
