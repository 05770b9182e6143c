-- Ends the rides of this round and makes their drivers available.
UPDATE rides SET active = false WHERE active;
UPDATE drivers SET busy = false WHERE busy;
