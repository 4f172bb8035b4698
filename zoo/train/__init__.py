"""Training: the options, the loop, its checkpoints and the run folders they live in.

`config` and `runs` import no torch, so that the command line can describe and find runs at once.
"""
