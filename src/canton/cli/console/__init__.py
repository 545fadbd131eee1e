"""Progress bars and live views in the terminal."""
