"""The HTTP door: handlers check, ask the service, and describe its answer. They never compute."""
