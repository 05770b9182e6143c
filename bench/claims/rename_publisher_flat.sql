UPDATE flat_books SET publisher = %(new)s WHERE publisher = %(old)s
