-- How many rides do riders take in one session? A gap of more than 30 minutes starts a new session.
WITH steps AS (
    SELECT
        rider_id,
        ride_id,
        requested_at,
        CASE WHEN requested_at <= LAG(requested_at) OVER (PARTITION BY rider_id ORDER BY requested_at, ride_id)
                  + INTERVAL '30' MINUTE THEN 0 ELSE 1 END AS begins
    FROM rides
),
numbered AS (
    SELECT
        rider_id,
        SUM(begins) OVER (PARTITION BY rider_id ORDER BY requested_at, ride_id
                          ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS session
    FROM steps
),
sessions AS (
    SELECT rider_id, session, COUNT(*) AS rides_in_session
    FROM numbered
    GROUP BY rider_id, session
)
SELECT rides_in_session, COUNT(*) AS sessions, COUNT(DISTINCT rider_id) AS riders
FROM sessions
GROUP BY rides_in_session
ORDER BY rides_in_session
