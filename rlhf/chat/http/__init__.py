"""The server's parts: routes, security, streams, the OpenAPI document, OpenAI's API, the monitor."""
