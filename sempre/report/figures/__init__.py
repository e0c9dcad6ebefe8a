"""Pictures and figures that pages show."""
