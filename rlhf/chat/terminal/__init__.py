"""The terminal's parts: commands, input and output, saved conversations, files of prompts."""
