"""One OpenAI-compatible port in front of all the models of your own machine."""
