"""One module per kind of backend. A kind knows its own server and no other kind."""
