"""What several test files use: plain computations from the definitions, a witness of calls, small data sets on disk."""
