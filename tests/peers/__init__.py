"""Real servers and clients for the tests, installed once into a cache folder outside the tree.

Promises: what a module here returns exists and has been tried; a cold cache is filled, a warm one reused; two test
runs at once do not disturb each other; where a peer cannot be had, `PeerMissing` says what was tried and what to
do. Never does a test skip for the want of a peer.
"""
