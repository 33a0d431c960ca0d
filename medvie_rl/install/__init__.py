"""Finishing an installation and proving that it works: `python -m medvie_rl.install`."""
