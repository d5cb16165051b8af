"""Readers: each turns the frames of a video, piece by piece, into tracks."""
