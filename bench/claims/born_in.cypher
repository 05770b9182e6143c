MATCH (:Place {name: $1})<-[:WITHIN*0..2]-(:Place)<-[:BORN_IN]-(born:Person)
RETURN count(born)
