"""The whole journey in scenes, on this machine, each with one sentence of verdict and its figures.

scenes  what is done and measured        story  the order, and what a reader sees meanwhile
page    the same as one HTML file        machine  what it was measured on
"""
