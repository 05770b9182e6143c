-- Convert text to trips. The rules are those of oltp/ingest/tlc/rules.py that concern a single row; duplicates are removed.
WITH typed AS (
    SELECT
        VendorID AS vendor,
        TRY_CAST(tpep_pickup_datetime AS TIMESTAMP) AS pickup,
        TRY_CAST(tpep_dropoff_datetime AS TIMESTAMP) AS dropoff,
        TRY_CAST(PULocationID AS INTEGER) AS pickup_zone,
        TRY_CAST(DOLocationID AS INTEGER) AS dropoff_zone,
        CAST(round(TRY_CAST(trip_distance AS DOUBLE) * 1609.344) AS BIGINT) AS distance_metres,
        CAST(round(TRY_CAST(total_amount AS DECIMAL(12, 2)) * 100) AS BIGINT)
            - CAST(round(TRY_CAST(tip_amount AS DECIMAL(12, 2)) * 100) AS BIGINT) AS fare_cents,
        CAST(round(TRY_CAST(tip_amount AS DECIMAL(12, 2)) * 100) AS BIGINT) AS tip_cents
    FROM raw_trips
)
SELECT DISTINCT * FROM typed
WHERE fare_cents BETWEEN 1 AND 100000 AND tip_cents BETWEEN 0 AND 100000
    AND dropoff > pickup AND dropoff - pickup <= INTERVAL 20 HOUR
    AND distance_metres BETWEEN 1 AND 321869
    AND distance_metres <= 44.704 * epoch(dropoff - pickup)
    AND pickup_zone BETWEEN 1 AND 263 AND dropoff_zone BETWEEN 1 AND 265
