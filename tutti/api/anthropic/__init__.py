"""Anthropic's API: `/v1/messages`, by the shapes that its official client reads."""
