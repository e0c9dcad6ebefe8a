"""Models that come with sempre, a bundle in each folder; `sempre.deploy.released` reads them."""
