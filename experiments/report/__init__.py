"""Results as a table, and what is read from it: statistics, claims, figures; nothing trains here."""
