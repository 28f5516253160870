"""The service's parts: turns, routing, duels, rewards in the background, versions that come and go."""
