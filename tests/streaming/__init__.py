"""What the tests of recordings on disk share: a run, and its interruptions."""
