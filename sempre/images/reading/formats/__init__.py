"""The formats that micrographs come in: which picture of a file is meant, and its levels."""
