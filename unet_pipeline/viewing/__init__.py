"""The cases of a run in a browser: image and label map, served on loopback to one page."""
