"""What both engines need to know about a GPU."""
