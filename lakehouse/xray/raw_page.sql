-- The bytes of the page, and how many pages lie between the root and a leaf of the primary key, both counted.
SELECT
    get_raw_page('ridelake.rides', %(block)s) AS page,
    (SELECT m.fastlevel + 1
     FROM pg_index AS i, bt_metap(i.indexrelid::regclass::text) AS m
     WHERE i.indrelid = 'ridelake.rides'::regclass AND i.indisprimary)::int AS index_pages
