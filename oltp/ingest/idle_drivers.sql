-- Drivers of the city without a ride between begin and end; locked, so that they are not deleted before the commit.
SELECT driver_id, account_id FROM drivers
WHERE city_id = %(city_id)s
  AND NOT EXISTS (
      SELECT FROM rides
      WHERE rides.driver_id = drivers.driver_id AND rides.assigned_at < %(end)s
        AND (rides.ended_at IS NULL OR rides.ended_at > %(begin)s))
ORDER BY driver_id LIMIT %(needed)s
FOR KEY SHARE OF drivers
