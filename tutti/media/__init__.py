"""Media: bytes to arrays and back, for images, audio and video. Empty until a model sees or hears."""
