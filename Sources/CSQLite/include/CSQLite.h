#ifndef CSQLITE_H
#define CSQLITE_H

/* `sqlite3_db_config` is variadic, which Swift cannot call. The connection is passed as an opaque
   pointer, as GRDB shows it. */

/* Switches triggers of this connection on (1) or off (0). Returns an SQLite result code. */
int csqlite_set_triggers_enabled(void *connection, int enabled);

/* Refuses statements that can corrupt the file on purpose (SQLITE_DBCONFIG_DEFENSIVE). */
int csqlite_set_defensive(void *connection, int enabled);

#endif
