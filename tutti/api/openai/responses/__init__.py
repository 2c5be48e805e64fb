"""OpenAI's `/v1/responses`, by the items and events that its official client reads."""
