"""One module a command, each with `add_arguments(parser)` and `run(args) -> exit code`, None for 0.

A command's module is light: it imports torch, timm and the like inside `run`. Its docstring is the text of
`zoo NAME --help` and ends with an example.
"""
