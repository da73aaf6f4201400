#ifndef STORAGE_H
#define STORAGE_H

#include "CCrashDisk.h"

#include <sqlite3.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes in pages that are shared until somebody writes: a copy of a file costs a list of pointers, and its print only
   what has changed since the last one. Files that share pages may belong to different threads. */
#define PAGE 4096

typedef struct page page;

typedef struct {
    /* NULL stands for zeros. Beyond the end of the file a page holds zeros. */
    page **pages;
    int64_t size, capacity;
} buffer;

void buffer_resize(buffer *buffer, int64_t size);
void buffer_write(buffer *buffer, const void *bytes, int64_t offset, int64_t size);
/* Returns how many bytes there were; the rest is zeros. */
int64_t buffer_read(const buffer *buffer, void *bytes, int64_t offset, int64_t size);
void buffer_copy(buffer *to, const buffer *from);
void buffer_free(buffer *buffer);
/* Equal for equal bytes. */
uint64_t buffer_print(const buffer *buffer);

/* A write or truncation; never changed. */
typedef struct {
    int references;
    int is_truncate;
    int64_t offset, size;
    uint8_t bytes[];
} change;

/* A change that was not synced. */
typedef struct {
    change *change;
    /* A sync that should have written it has failed. */
    int is_lost;
} pending;

typedef struct {
    pending *all;
    int64_t count, capacity;
} pendings;

void buffer_apply(buffer *buffer, const change *change);
void pendings_add(pendings *list, int is_truncate, const void *bytes, int64_t offset, int64_t size);
void pendings_copy(pendings *to, const pendings *from);
/* Lets go of all. */
void pendings_clear(pendings *list);
/* Applies those that no failed sync has lost, and lets go of them. */
void pendings_sync(pendings *list, buffer *durable);
/* What a power cut leaves of them. */
void pendings_lose(const pendings *list, buffer *durable, uint64_t seed, int manner);

/* A file of a state. */
typedef struct saved {
    struct saved *next;
    /* Below the disk's directory, beginning with a slash. */
    char *path;
    int is_directory;
    int is_database;
    /* Of its marker; a fence remembers it. */
    ino_t inode;
    buffer durable;
    /* What was read there; without a meaning when nothing is unsynced. */
    buffer visible;
    pendings unsynced;
} saved;

struct crash_state {
    /* In the order of their paths. */
    saved *files;
};

/* Adds a file at its place. */
saved *state_add(crash_state *state, const char *path);
saved *state_at(const crash_state *state, const char *path);

/* What SQLite is told of the disk, while it works and while it recovers. */
int disk_sector_size(sqlite3_file *file);
int disk_characteristics(sqlite3_file *file);

#endif
