"""The lexicon head: logits over the vocabulary, their pooling, and the backends of its max over tokens."""
