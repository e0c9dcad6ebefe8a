"""Many micrographs: which, under what names their results go, and what is done already."""
