"""The operating system and the network, as the layers above want to see them."""
