"""The operator's page: its files, and what it asks the service beyond the API that robots and scripts use."""
