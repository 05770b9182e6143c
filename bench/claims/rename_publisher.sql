UPDATE publishers SET publisher = %(new)s WHERE publisher = %(old)s
