-- The snapshot of this transaction: what the next poll begins from.
SELECT pg_current_snapshot()::text;
