#ifndef CSQLITE_H
#define CSQLITE_H

/* `sqlite3_config` and `sqlite3_db_config` are variadic, which Swift cannot call. A connection is passed
   as an opaque pointer, as GRDB shows it. */

/* Leaves out the count of the memory that SQLite uses, for which all its threads take one lock with each piece of
   memory. Returns an SQLite result code: SQLITE_MISUSE, and nothing changed, after the first connection. */
int csqlite_leave_out_memory_count(void);

/* Switches triggers of this connection on (1) or off (0). Returns an SQLite result code. */
int csqlite_set_triggers_enabled(void *connection, int enabled);

/* Refuses statements that can corrupt the file on purpose (SQLITE_DBCONFIG_DEFENSIVE). */
int csqlite_set_defensive(void *connection, int enabled);

/* Debug builds only: SQLite is refused the nth piece of memory that it asks for in this process, or all from that one on.
   To be called before the first connection. Returns an SQLite result code. */
int csqlite_fail_allocation(long nth, int for_ever);

#endif
