"""`ridelake live`: one page that shows both stores at work, and lets its viewer change and break them.

    browser <── events ──── app.py ── stream.py <── reports ── worker.py ── load.py      books, crashes
            ─── commands ─> app.py ── session.py ─ commands ─> (processes)  sync.py      epochs, verify
                                                                            question.py  rows and columns
                                                                            watch.py     drivers, indexes
                                                                            contrast.py  without transactions

session.py    starts and ends everything; what each command does
app.py        the web server: addresses, and what it refuses
commands.py   checks the bodies of commands
stream.py     the state, its history, and the queue of each viewer
worker.py     a child process, its pipe, its restart
load.py       bookings without end; crash.py kills the server under them
sync.py       epochs, lag, verify; freshness.py: whether the store is still at an epoch
question.py   one query on both stores; reads.py measures what it reads
watch.py      what is read from the store once a second; builds and drops indexes
contrast.py   the strategies of `ridelake acid`, in a scratch database
page/         the page; tour.json has the steps of the tour and the settings of each
"""
