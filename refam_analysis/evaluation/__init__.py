"""How good points and masks are: metrics, and the test of grounding on scenes."""
