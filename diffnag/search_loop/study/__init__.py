"""The memory of a search: one study in an Optuna storage, on which any number of workers may work.

Glossary, from large to small:

    storage   where studies are kept: memory, a SQLite file, a journal file, or a PostgreSQL database (`storage`, `sqlite`, `journal`)
    study     all that is known of one search, under a name; resumed searches and all workers share it (`study`)
    worker    a process that works on a study (`leases`)
    round     what is planned at once: up to `--batch` architectures. Rounds are counted from 0 (`ledger`)
    plan      the proposals of a round and what it cost to choose them, written once by one worker (`records`)
    place     one architecture of a plan. Places are counted over all rounds, from 0; the budget limits their number (`ledger`)
    attempt   a trial of the Optuna study. It belongs to one place; if its worker dies, the place gets another attempt
    claim     the right of one worker to evaluate one place, by one attempt (`claims`)
    lease     a counter on an attempt by which its worker shows that it lives (`leases`)
    outcome   what an evaluation gave: a value or an error, its cost, its epochs (`records`)
    label     a place whose outcome is written. Labels are the `Trial`s that methods and users see (`ledger`)
    abandoned an attempt that is no label: its worker has died, has stopped, or came too late

How workers agree. A worker that wants to plan a round creates the attempt for its first place. That is one step in every storage, and
attempts are numbered, so all workers know who was first. This worker writes its plan onto the attempt, and waiting attempts for the
other places. A storage lets one worker alone take a waiting attempt. So no place is evaluated twice, and no more places are planned
than the budget has. An attempt whose worker has died is marked as abandoned, and its place gets another; an outcome that is
written is never lost. One worker alone plans only when all its labels are there: what it does is a function of them, and after a
kill it goes on exactly as it would have without.
"""
