"""The cockpit: pages in the browser over the library. Nothing is computed here that a command does not do too."""
