"""The whole pipeline in eight scenes, each with a result in one or two sentences and its figures.

scenes  the work and the measurements    story  the order and titles of the scenes
page    the results as one HTML file
"""
