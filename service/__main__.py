"""`python -m service` is the command `whylight`."""

from service.cli import main

main()
