"""The smallest random model of every family, of the real classes: one file, and one ``CASE``, a family."""
