"""What the shipped policies are made of: names, with reasons. `policies.py` decides who uses which.

The tables name classes of things (whole module trees, every frame attribute), never programs.
"""
