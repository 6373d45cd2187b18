"""What both ends of a wire need: value codecs, frames, rules for names.

Unpickles nothing, and imports nothing else of the project.
"""
