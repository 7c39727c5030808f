"""Schema migrations, applied by `database.migrate` when a server starts; never edited once released."""
