"""``python -m refam_analysis.cli``."""

from refam_analysis.cli import app

if __name__ == "__main__":
    app()
