"""What particles lie on, and what only looks like particles."""
