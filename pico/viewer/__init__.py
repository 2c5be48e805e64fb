"""The viewer: a classifier that tells what stands where in a picture, to examine what pico draws.

It is trained apart from pico, on painted pictures of another kind, and nothing of pico is ever trained on what it says.
"""
