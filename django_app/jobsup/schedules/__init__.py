"""Tasks that are enqueued again and again: declared beside them, or made in the admin."""
