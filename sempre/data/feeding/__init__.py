"""What feeds a network: crops, views and whole micrographs, and the order in which they come."""
