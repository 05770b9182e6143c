-- RideTable, the example table of a university lecture on data systems, as a view. All engines use the same text.
-- One row for each completed ride. LEFT JOIN, so that a planner can omit the riders if no username is selected.
CREATE VIEW RideTable AS
SELECT
    rides.ride_id AS RideID,
    riders.username AS Username,
    rides.driver_id AS DriverID,
    cities.name AS City,
    CASE EXTRACT(MONTH FROM rides.requested_local)
        WHEN 1 THEN 'January' WHEN 2 THEN 'February' WHEN 3 THEN 'March' WHEN 4 THEN 'April'
        WHEN 5 THEN 'May' WHEN 6 THEN 'June' WHEN 7 THEN 'July' WHEN 8 THEN 'August'
        WHEN 9 THEN 'September' WHEN 10 THEN 'October' WHEN 11 THEN 'November' ELSE 'December'
    END AS Month,
    CAST(rides.fare_cents * 0.01 AS DECIMAL(12, 2)) AS Price
FROM rides
LEFT JOIN riders ON riders.rider_id = rides.rider_id
LEFT JOIN cities ON cities.city_id = rides.city_id
WHERE rides.status = 'completed'
