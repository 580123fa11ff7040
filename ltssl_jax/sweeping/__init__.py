"""Many runs as one question: grids of configurations, and processes side by side."""
