"""The terminal: one file per command, each importing what it needs at the moment it runs.

`main` is the program; `flags` are the engine's flags that several commands share; `session` answers requests inside
this process. What is heavy (torch, the engine, the HTTP server) is imported inside the commands, so that
`tutti --help` answers at once.
"""
