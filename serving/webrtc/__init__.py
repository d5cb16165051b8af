"""A live video shown frame by frame, as soon as each is there, in place of the growing file; needs aiortc."""
