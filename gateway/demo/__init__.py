"""The demo model: small enough to ship, just able to say that the pipe works. See `CARD.md`."""
