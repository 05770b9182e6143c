CREATE TABLE places (place_id bigint PRIMARY KEY, name text NOT NULL, within_id bigint);
CREATE TABLE people (person_id bigint PRIMARY KEY, name text NOT NULL, born_in_id bigint NOT NULL);
CREATE TABLE friendships (person_id bigint NOT NULL, friend_id bigint NOT NULL);
