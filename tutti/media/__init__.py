"""Media: bytes to arrays and back, for images, audio and video; and fetching the bytes safely. No torch."""
