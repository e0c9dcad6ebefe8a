"""From priorities to a path: fields of view, their order, and the time they take."""
