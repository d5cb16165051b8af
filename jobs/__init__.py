"""Videos to be made: read from batch files and requests, put into workflows. Standard library only."""
