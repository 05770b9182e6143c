"""When should I leave Postgres? The same rides as rows and as columns, in several sizes.

contests    questions at each size, ranges with and without an index, up-to-date answers: interleaved
crossing    the number of rides, or rows, from which on the columns are faster
advice      the result in three sentences
"""
