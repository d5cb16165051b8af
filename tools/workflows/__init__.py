"""What the shipped workflows are made of; ``tools.make_workflows`` writes them."""
