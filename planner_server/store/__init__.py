"""What survives the process: sessions, goals, plans and events in SQLite or PostgreSQL. Knows no model and no door."""
