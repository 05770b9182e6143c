MATCH (:Person {person_id: $1})-[:FRIEND* SHORTEST 1..$hops]-(friend:Person)
RETURN count(friend)
