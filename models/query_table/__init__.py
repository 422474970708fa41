"""Query vectors without a text encoder: one weight per token, from a table that is computed or learned once."""

from typing import Literal, get_args

Method = Literal["idf", "learned", "free"]
METHODS = get_args(Method)
"""idf of the training captions; softplus of a linear map of a token's embedding; a parameter for each token."""
