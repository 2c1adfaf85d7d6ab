"""One OpenAI-compatible port in front of all the models of your own machine."""

__version__ = "0.1.0"
