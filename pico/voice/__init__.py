"""pico's voice: how its talker and its token2wav are made, on eSpeak's reading of the answers by one speaker.

`codec` makes codes of speech, `token2wav` learns to sound them, `talker` learns to say the thinker's answers in them.
"""
