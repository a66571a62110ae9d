"""What keeps the repository true to what it depends on: its licences, and the versions that it works with."""
