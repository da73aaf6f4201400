#include "CSQLite.h"

#include <sqlite3.h>

int csqlite_set_triggers_enabled(void *connection, int enabled) {
    return sqlite3_db_config((sqlite3 *)connection, SQLITE_DBCONFIG_ENABLE_TRIGGER, enabled, (int *)0);
}

int csqlite_set_defensive(void *connection, int enabled) {
    return sqlite3_db_config((sqlite3 *)connection, SQLITE_DBCONFIG_DEFENSIVE, enabled, (int *)0);
}
