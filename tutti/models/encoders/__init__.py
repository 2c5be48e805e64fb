"""Encoders of text: networks whose tokens look at each other both ways, and what makes vectors and scores of them."""
