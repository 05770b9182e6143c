"""When should I leave Postgres? The same rides as rows and as columns, in several sizes.

contests    questions at each size, ranges with and without an index, answers as of now: timed in turns
crossing    from how many rides, or rows, on the columns are faster for good
advice      three sentences of it
"""
