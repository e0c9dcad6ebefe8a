"""Models that come with sempre, a bundle in each folder; `sempre.deploy.released` reads them."""

DEFAULT = "particles"  # the one that is meant where none is named
