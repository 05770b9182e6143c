CREATE INDEX friendships_by_person ON friendships (person_id, friend_id);
CREATE INDEX people_by_place ON people (born_in_id);
CREATE INDEX places_by_place ON places (within_id);
