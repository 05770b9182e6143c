-- The bytes of the page, and the number of pages from the root to a leaf of the primary key, inclusive.
SELECT
    get_raw_page('ridelake.rides', %(block)s) AS page,
    (SELECT m.fastlevel + 1
     FROM pg_index AS i, bt_metap(i.indexrelid::regclass::text) AS m
     WHERE i.indrelid = 'ridelake.rides'::regclass AND i.indisprimary)::int AS index_pages
