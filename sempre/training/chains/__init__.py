"""Many runs: chains of recipes, sweeps, and what they cost."""
