"""Where a microscope should look next: a preview in, a priority map and a stage's path out."""
