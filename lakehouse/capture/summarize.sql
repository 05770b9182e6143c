-- A BRIN index has no summary of pages that are new since the last VACUUM, so a query reads all of them.
SELECT brin_summarize_new_values(indexrelid)
FROM ridelake_tracking.tracked JOIN pg_index ON indrelid = relation
WHERE pg_get_indexdef(indexrelid) LIKE '%USING brin (tx)%'
