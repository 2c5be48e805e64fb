"""A model that is composed of others by a file (`hub.composition`): text and media pass between whole models.

Every part is a backend of its own with a process of its own; what passes between them is what passes between people:
recordings, pictures, text, sentences, sound.
"""
