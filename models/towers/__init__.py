"""Image and text encoders: classes of transformers, and EfficientNet-Lite0."""
