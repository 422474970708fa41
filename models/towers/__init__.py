"""Image and text encoders: classes of transformers, EfficientNet-Lite, and what is trained on a frozen encoder."""
