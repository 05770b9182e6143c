MATCH (:Place {name: $1})<-[:WITHIN*0..]-(:Place)<-[:BORN_IN]-(born:Person)
RETURN count(born)
