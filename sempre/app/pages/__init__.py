"""The cockpit's pages, one a file."""
