"""From patches to priorities: strangeness, clicks, words, and their mixture."""
