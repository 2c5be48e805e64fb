"""The judge: a recogniser that hears whether pico speaks intelligibly.

It is trained apart from pico, on other voices, and nothing of pico is ever trained on what it says.
"""
