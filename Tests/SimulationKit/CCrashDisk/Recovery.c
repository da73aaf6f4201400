#include "Storage.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* A disk that exists in memory only, below SQLite while it recovers what a power cut has left. It has one connection,
   which says that it is alone and so needs no shared memory and no locks. */

typedef struct {
    sqlite3_file base;
    crash_state *state;
    saved *file;
} memory_file;

/* The state that this thread is recovering: SQLite hands only a path to a VFS. */
static __thread crash_state *recovering;

static int x_close(sqlite3_file *base) {
    base->pMethods = NULL;
    return SQLITE_OK;
}

static int x_read(sqlite3_file *base, void *bytes, int count, sqlite3_int64 offset) {
    int64_t there = buffer_read(&((memory_file *)base)->file->durable, bytes, offset, count);
    return there < count ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

static int x_write(sqlite3_file *base, const void *bytes, int count, sqlite3_int64 offset) {
    buffer_write(&((memory_file *)base)->file->durable, bytes, offset, count);
    return SQLITE_OK;
}

static int x_truncate(sqlite3_file *base, sqlite3_int64 size) {
    buffer_resize(&((memory_file *)base)->file->durable, size);
    return SQLITE_OK;
}

static int x_sync(sqlite3_file *base, int flags) {
    (void)base;
    (void)flags;
    return SQLITE_OK;
}

static int x_file_size(sqlite3_file *base, sqlite3_int64 *size) {
    *size = ((memory_file *)base)->file->durable.size;
    return SQLITE_OK;
}

static int x_lock(sqlite3_file *base, int wanted) {
    (void)base;
    (void)wanted;
    return SQLITE_OK;
}

static int x_check_reserved_lock(sqlite3_file *base, int *result) {
    (void)base;
    *result = 0;
    return SQLITE_OK;
}

static int x_file_control(sqlite3_file *base, int operation, void *argument) {
    (void)base;
    (void)operation;
    (void)argument;
    return SQLITE_NOTFOUND;
}

static const sqlite3_io_methods methods = {
    /* Without shared memory. */
    .iVersion = 1,
    .xClose = x_close,
    .xRead = x_read,
    .xWrite = x_write,
    .xTruncate = x_truncate,
    .xSync = x_sync,
    .xFileSize = x_file_size,
    .xLock = x_lock,
    .xUnlock = x_lock,
    .xCheckReservedLock = x_check_reserved_lock,
    .xFileControl = x_file_control,
    .xSectorSize = disk_sector_size,
    .xDeviceCharacteristics = disk_characteristics,
};

static saved *named(const char *path) {
    if (!recovering || !path) return NULL;
    saved *file = state_at(recovering, path);
    return file && !file->is_directory ? file : NULL;
}

static int x_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *flags_out) {
    (void)vfs;
    memory_file *opened = (memory_file *)base;
    memset(opened, 0, sizeof *opened);
    if (!recovering || !path) return SQLITE_CANTOPEN;
    opened->file = named(path);
    if (!opened->file) {
        if (!(flags & SQLITE_OPEN_CREATE)) return SQLITE_CANTOPEN;
        opened->file = state_add(recovering, path);
        opened->file->is_database = 1;
    }
    opened->base.pMethods = &methods;
    if (flags_out) *flags_out = flags;
    return SQLITE_OK;
}

static int x_delete(sqlite3_vfs *vfs, const char *path, int syncs) {
    (void)vfs;
    (void)syncs;
    /* Its name stays until the end: somebody may hold the file. An empty journal is none. */
    saved *file = named(path);
    if (!file) return SQLITE_IOERR_DELETE_NOENT;
    buffer_resize(&file->durable, 0);
    return SQLITE_OK;
}

static int x_access(sqlite3_vfs *vfs, const char *path, int flags, int *result) {
    (void)vfs;
    (void)flags;
    saved *file = named(path);
    *result = file && file->durable.size > 0;
    return SQLITE_OK;
}

static int x_full_pathname(sqlite3_vfs *vfs, const char *path, int size, char *full) {
    (void)vfs;
    if (strlen(path) >= (size_t)size) return SQLITE_CANTOPEN;
    strcpy(full, path);
    return SQLITE_OK;
}

static sqlite3_vfs ours;

static void prepare(void) {
    if (sqlite3_initialize() != SQLITE_OK) return;
    /* Sleeping, random numbers and the time are the system's. */
    ours = *sqlite3_vfs_find("unix");
    ours.pNext = NULL;
    ours.zName = "crashmemory";
    ours.szOsFile = sizeof(memory_file);
    ours.xOpen = x_open;
    ours.xDelete = x_delete;
    ours.xAccess = x_access;
    ours.xFullPathname = x_full_pathname;
    sqlite3_vfs_register(&ours, 0);
}

int crash_state_recover(crash_state *state, const char *path) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
    recovering = state;
    sqlite3 *database = NULL;
    int code = sqlite3_open_v2(path, &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, ours.zName);
    /* Reads the header only, in a transaction: that recovers whatever is to be recovered. */
    if (code == SQLITE_OK) {
        code = sqlite3_exec(database, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA user_version", NULL, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_wal_checkpoint_v2(database, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
    int closed = sqlite3_close(database);
    recovering = NULL;
    return code == SQLITE_OK ? closed : code;
}

int crash_state_has(const crash_state *state, const char *path) {
    saved *file = state_at(state, path);
    return file && !file->is_directory;
}
