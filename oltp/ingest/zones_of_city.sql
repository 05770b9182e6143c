-- The zones of a city; locked, so that they are not deleted before the commit.
SELECT zone_id FROM zones WHERE city_id = %s FOR KEY SHARE
