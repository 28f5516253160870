"""Talking to a model, and what people make of its replies: in the terminal, in the browser and over HTTP."""
