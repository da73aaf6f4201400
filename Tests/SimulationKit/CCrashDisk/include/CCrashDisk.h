#ifndef CCRASHDISK_H
#define CCRASHDISK_H

#include <stdint.h>

/* A disk in memory for SQLite, whose power can be cut.

   Serves the files below one directory. In that directory lies, for each of them, a real file as a marker, so that
   programs may test, rename, copy and remove names with the system's own calls; the content is here. All other paths
   go to the VFS that was the default before. Safe to call from any thread. */
typedef struct crash_disk crash_disk;

/* What a disk and its directory hold at one moment: for every file of SQLite what is durable and what has not been
   synced since, for every other file its bytes. */
typedef struct crash_state crash_state;

/* Operations that can be counted, cut or made to fail. */
enum {
    CRASH_READ = 1,
    CRASH_WRITE = 2,
    CRASH_SYNC = 4,
    CRASH_TRUNCATE = 8,
    CRASH_DELETE = 16,
    /* Everything that changes what a power cut leaves. */
    CRASH_CHANGES = CRASH_WRITE | CRASH_SYNC | CRASH_TRUNCATE | CRASH_DELETE
};

/* What a power cut does to writes that were not synced. */
enum {
    /* Each is kept or dropped, torn or garbled at 512 bytes, as the seed says. */
    CRASH_ANYHOW = 0,
    CRASH_KEEP = 1,
    CRASH_DROP = 2,
    /* Kept up to one of them, which is torn; the rest is dropped. */
    CRASH_IN_ORDER = 3,
    /* Each is kept, dropped, or torn and garbled at 4,096 bytes. */
    CRASH_PAGES = 4,
    /* Each is kept, dropped, or half of it is nonsense. */
    CRASH_GARBLE = 5
};

/* Makes a disk for a directory that exists. NULL when SQLite does not take it. */
crash_disk *crash_disk_make(const char *directory);

/* Lets go of a disk and of its content. Handles that are still open turn dead. */
void crash_disk_free(crash_disk *disk);

/* Operations of a kind, or of several, since the disk was made. */
int64_t crash_disk_count(crash_disk *disk, int kinds);

/* Cuts the power at the nth operation from now on that changes something (1: the next); 0: never. */
void crash_disk_cut_at(crash_disk *disk, int64_t n);

/* Cuts the power now. */
void crash_disk_cut(crash_disk *disk);

/* Whether the power is on. */
int crash_disk_is_powered(crash_disk *disk);

/* Lets the nth operation from now on of some kinds fail with a code of SQLite, once or from there on for ever.
   n = 0 takes the fault away. A write that fails has written its first half; what a failed sync should have written
   can still be read, and is lost with the power. */
void crash_disk_fail_at(crash_disk *disk, int kinds, int64_t n, int code, int for_ever);

/* Lets SQLite on this thread see another time: milliseconds since 1970, 0 for the true one. */
void crash_time_show(int64_t milliseconds);

/* How often something failed by that. */
int64_t crash_disk_failures(crash_disk *disk);

/* Whether syncs only pretend. */
void crash_disk_lie(crash_disk *disk, int lies);

/* Calls a function whenever something is about to become durable or not: with each write and truncation when it has
   reached the disk's memory, with each sync and removal before it is done. What it sees with `crash_disk_capture` is
   what a power cut at that moment meets. It may use other disks. NULL ends it. */
void crash_disk_watch(crash_disk *disk, void (*call)(void *context), void *context);

/* What the disk holds now; after a cut, what it held then. */
crash_state *crash_disk_capture(crash_disk *disk);

void crash_state_free(crash_state *state);

/* The same once more. */
crash_state *crash_state_copy(const crash_state *state);

/* Puts a state, of this disk or of another one, in the place of everything, as it was, and switches the power on.
   Handles turn dead. */
void crash_disk_restore(crash_disk *disk, const crash_state *state);

/* How much in a state was not synced. */
int64_t crash_state_unsynced(const crash_state *state);

/* What a power cut leaves of a state: everything in it is durable. The same seed leaves the same. */
crash_state *crash_state_cut(const crash_state *state, uint64_t seed, int manner);

/* Whether a state holds a file, at a path below the directory that begins with a slash. */
int crash_state_has(const crash_state *state, const char *path);

/* A number for the durable content of those files of a state whose paths end so: equal for equal bytes. */
uint64_t crash_state_print(const crash_state *state, const char *ending);

/* Lets SQLite recover a database of a state as the next one who opens it would, and put its write-ahead log into the
   file. Neither a disk nor its directory is touched, and no schema is read. Returns a result code of SQLite. */
int crash_state_recover(crash_state *state, const char *path);

#endif
