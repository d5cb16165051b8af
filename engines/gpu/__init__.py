"""Work on a GPU that knows no model."""
