"""A study: cells of methods, arms, sizes and repeats, what they cost, and the statistics of their scores."""
