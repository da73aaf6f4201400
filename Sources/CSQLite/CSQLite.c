#include "CSQLite.h"

#include <sqlite3.h>

int csqlite_leave_out_memory_count(void) { return sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }

int csqlite_set_triggers_enabled(void *connection, int enabled) {
    return sqlite3_db_config((sqlite3 *)connection, SQLITE_DBCONFIG_ENABLE_TRIGGER, enabled, (int *)0);
}

int csqlite_set_defensive(void *connection, int enabled) {
    return sqlite3_db_config((sqlite3 *)connection, SQLITE_DBCONFIG_DEFENSIVE, enabled, (int *)0);
}

#ifdef FAULT_INJECTION

#include <stdatomic.h>

static sqlite3_mem_methods system_memory;
static atomic_long allocations_left;
static int fails_for_ever;

static int is_refused(void) {
    long left = atomic_fetch_sub(&allocations_left, 1);
    return left == 1 || (left < 1 && fails_for_ever);
}

static void *allocate(int size) { return is_refused() ? 0 : system_memory.xMalloc(size); }
static void *reallocate(void *memory, int size) { return is_refused() ? 0 : system_memory.xRealloc(memory, size); }

int csqlite_fail_allocation(long nth, int for_ever) {
    int code = sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_memory);
    if (code != SQLITE_OK) return code;
    allocations_left = nth;
    fails_for_ever = for_ever;
    sqlite3_mem_methods failing = system_memory;
    failing.xMalloc = allocate;
    failing.xRealloc = reallocate;
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
}

#endif
