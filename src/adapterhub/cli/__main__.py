"""``python -m adapterhub.cli``."""

from adapterhub.cli import main

main()
